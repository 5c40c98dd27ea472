"""Looks for the evidence in what was opened, and says where each find lies.

The surprising rule: every find is told with the asset that owns its row, where there is one. While evidence
is gathered, finds in rows of others show what they share, which is then looked for no more.

Shapes: N numbers.
"""

from __future__ import annotations

import bisect
import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.verify import fields, leaves, naming, needles, numbers, rows, segments, texts
from pipeline.verify.evidence import Item
from pipeline.verify.finds import Hit, Seen, Wrong
from pipeline.verify.formats import Opener, Part, TooLarge, Unread
from pipeline.verify.kinds import MARKED, kind_of, within

MOST_ALIKE = 20
"""Finds of one item in one file that are told; more are counted."""
LONGEST_RECORD = 1 << 20


class Search:
    """``sharing``: only what others' rows hold is noted, and only that they do."""

    def __init__(self, items: Sequence[Item], *, sharing: bool = False) -> None:
        self.items = items
        # A name without its provider may stand in another's record, who calls something else by it.
        self.names = {
            n for n, item in enumerate(items) if item.kind == "id" and item.note not in needles.BARE
        }
        every = needles.of(items)
        # Words that many of the revoked have in common are told of one, or each find would be found for all.
        self.matcher = needles.Matcher(every if sharing else needles.distinct(every))
        self.runs = [numbers.Runs(items, width) for width in (numbers.CODES, numbers.WORDS)]
        self.vectors = numbers.Vectors(items)
        self.singles = numbers.Singles(items, "integer")
        self.index_ids = numbers.Singles(items, "index_id")
        self.fields = fields.Fields(
            fields.Named(item.note, item.uid, item.value.decode()) for item in items if item.kind == "field"
        )
        stay = [np.frombuffer(item.value, np.uint64) for item in items if item.kind == "survivors"]
        self.others: naming.Digests = stay[0] if stay else np.zeros(0, np.uint64)
        self._numbers = {(one.item, one.sub): number for number, one in enumerate(self.matcher.needles)}
        self.seen = Seen()
        self.is_sharing, self._is_inside = sharing, False
        self._revoked = {item.uid for item in items if item.kind != "field"}
        newest = [signed(item) for item in items if item.kind == "newest_id"]
        self.newest_id = newest[0] if newest else np.iinfo(np.int64).max
        self._known_ids = {signed(item) for item in items if item.kind == "index_id"}

    def begin(self) -> Seen:
        """What is found from now on."""
        self.seen = Seen()
        return self.seen

    @contextlib.contextmanager
    def inside(self) -> Iterator[Seen]:
        """What is found inside of one value, whose place only the caller knows."""
        outer, self.seen, self._is_inside = self.seen, Seen(), True
        try:
            yield self.seen
        finally:
            self.seen, self._is_inside = outer, False

    def keep(self, hit: Hit) -> None:
        if self._is_inside:
            self.seen.hits.append(hit)
        elif self.is_sharing:
            if hit.index_id >= 0:
                is_others = hit.index_id not in self._known_ids
            else:
                is_others = bool(hit.owner) and hit.owner not in self._revoked and not hit.is_near
            if is_others:
                self.seen.shared.add((hit.item, hit.sub))
                self._forget(hit.item, hit.sub)
        else:
            what = hit.item, hit.sub
            self.seen.counts[what] = self.seen.counts.get(what, 0) + 1
            if self.seen.counts[what] <= MOST_ALIKE:
                self.seen.hits.append(hit)

    def _forget(self, item: int, sub: int) -> None:
        """What others have too is found in every row of theirs; once is enough."""
        number = self._numbers.pop((item, sub), None)
        if number is not None:
            self.matcher.forget(number)

    def found(self, data: memoryview) -> Iterator[tuple[int, needles.Needle]]:
        """(offset, needle) of whole names and words."""
        for offset, number in self.matcher.found(data):
            needle = self.matcher.needles[number]
            if naming.stands(needle, data, offset, (0, len(data)), self.others):
                yield offset, needle

    def raw(self, data: memoryview, place: str, parts: list[Part]) -> None:
        starts = [part.start for part in parts]
        for offset, needle in self.found(data):
            at = bisect.bisect_right(starts, offset) - 1
            where, owner = f"offset {offset}", ""
            if at >= 0 and offset < parts[at].end:
                where = f"{parts[at].name}, offset {offset - parts[at].start}"
                owner = naming.uid_of_member(parts[at].name)
            self._needle(needle, within(place, where), owner)

    def name(self, name: str, place: str) -> None:
        for _, needle in self.found(memoryview(name.encode("utf-8", "surrogateescape"))):
            self._needle(needle, f"{place}: {name[:200]}")

    def member(self, name: str, data: memoryview, _place: str) -> None:
        """The uid that a record in an archive tells."""
        if name.endswith(".json") and len(data) < LONGEST_RECORD:
            uid = naming.uid_of_record(bytes(data))
            if uid:
                self.seen.uids.add(uid)

    def text(self, data: bytes, place: str) -> None:
        for how, plain in texts.unescaped(data):
            self.bytes_of(plain, within(place, how))
        self._meaning(data, place)

    def _meaning(self, data: bytes, place: str) -> None:
        """Lists of numbers, and fields of records."""
        for listed in texts.listed(data):
            self._listed(listed.values_N, within(place, f"list at {listed.offset}"))
        if self.fields:
            for where, value in texts.documents(data):
                for record in texts.records(value):
                    for key, wrong in self.fields.in_record(record):
                        inner = f"{where}, key {key}" if where else f"key {key}"
                        self.seen.wrong.append(Wrong(within(place, inner), key, wrong))

    def bytes_of(self, data: bytes, place: str) -> None:
        """Words that were unescaped: their line is told."""
        ends: NDArray[np.intp] | None = None  # of lines: counted anew for each find they took half the time
        for offset, needle in self.found(memoryview(data)):
            if ends is None:
                (ends,) = np.nonzero(np.frombuffer(data, np.uint8) == ord("\n"))
            self._needle(needle, f"{place}, line {np.searchsorted(ends, offset) + 1}")

    def _listed(self, values_N: NDArray[Any], place: str) -> None:
        if values_N.dtype.kind in "iu":
            self._runs(values_N, place)
        if len(values_N) in self.vectors.widths:
            for found in self.vectors.found(values_N[None]):
                self._number(found, place)

    def _runs(self, values_N: NDArray[Any], place: str) -> None:
        for runs in self.runs:
            for found in runs.found(values_N):
                self._number(found, f"{place}, number {found.place}")

    def batch(self, batch: pa.RecordBatch, place: str, row: int, schema: pa.Schema) -> None:
        if row == 0:
            self._schema(schema, place)
        if self.is_sharing:
            batch = self._of_others(batch)
        table = rows.Table(self, place, row)
        for leaf in leaves.of(batch):
            table.add(leaf)
        for hit in table.hits():
            self.keep(hit)

    def _of_others(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Without the rows that name a revoked asset: each holds a thousand runs that show nothing."""
        named = [
            leaf for leaf in leaves.of(batch) if isinstance(leaf, leaves.Bytes) and leaf.path[-1] == "uid"
        ]
        mine = {
            leaf.row(number)
            for leaf in named
            for number, uid in enumerate(rows.strings(leaf))
            if uid in self._revoked
        }
        left = np.setdiff1d(np.arange(batch.num_rows), np.array(sorted(mine), np.int64))
        return batch.take(pa.array(left)) if mine else batch

    def _schema(self, schema: pa.Schema, place: str) -> None:
        said = [("schema metadata", schema.metadata or {})]
        said += [(f"metadata of column {one.name}", one.metadata or {}) for one in schema]
        for where, metadata in said:
            for part in (part for pair in metadata.items() for part in pair):
                self.bytes_of(part, within(place, where))
                self.text(part, within(place, where))
        for name in schema.names:
            self.name(name, within(place, "a column's name"))

    def array(self, values: NDArray[Any], place: str) -> None:
        where, flat = within(place, "array"), values.reshape(-1)
        if values.dtype.kind in "iu":
            self._runs(flat, where)
            for found in self.singles.found(flat):
                self._number(found, f"{where}, number {found.place}")
        elif values.dtype.kind == "f":
            wide = values.reshape(-1, values.shape[-1]) if values.ndim > 1 else flat[None]
            for found in self.vectors.found(wide):
                self._number(found, f"{where}, row {found.place}")
        else:
            self.binary(memoryview(values.tobytes()), place)

    def binary(self, data: memoryview, place: str) -> None:
        for found in self.in_binary(data):
            self._number(found, within(place, f"offset {found.place}"))

    def in_binary(self, data: memoryview) -> Iterator[numbers.Found]:
        """Codes as numbers of 2, 4 or 8 bytes, wherever they begin: those of 4 and 8 have zeros between.

        The place is an offset.
        """
        for odd in range(min(2, len(data))):
            short = np.frombuffer(data, "<u2", (len(data) - odd) // 2, odd)
            for step in (1, 2, 4):
                for first in range(step):
                    for found in self.runs[0].found(short[first::step]):
                        yield numbers.Found(odd + 2 * (first + step * found.place), found.item, found.sub)

    def index(self, index: Any, place: str) -> None:
        opened, where = segments.opened(index), within(place, "index")
        for found in self.index_ids.found(opened.ids_N):
            at = int(opened.ids_N[found.place])
            self._number(found, f"{where}, id {at}", index_id=at)
        for start, vectors_ND in opened.vectors():
            for found in self.vectors.found(vectors_ND):
                at = int(opened.ids_N[start + found.place])
                self._number(found, f"{where}, vector of id {at}", index_id=at)

    def inner(self, value: memoryview, *, is_text: bool) -> list[Hit]:
        """What a value of a table is, or means, beside what it says once its escapes are undone."""
        with self.inside() as seen:
            if is_text:
                self._meaning(bytes(value), "")
                for offset, decoded in texts.encoded(bytes(value)):
                    if kind_of(memoryview(decoded)) in MARKED:
                        self._opened(memoryview(decoded), f"base64 at {offset}")
            else:
                self._opened(value, "")
        self.seen.wrong += seen.wrong
        return seen.hits

    def _opened(self, value: memoryview, place: str) -> None:
        try:
            Opener(self).open(value, "", place, 1, new=False)
        except TooLarge:
            raise
        except Unread:
            # Among many small values some begin like a file by chance; all were searched as they stand.
            if kind_of(value) in MARKED:
                raise

    def _number(self, found: numbers.Found, place: str, index_id: int = -1) -> None:
        self.keep(Hit(place=place, item=found.item, sub=found.sub, index_id=index_id))

    def _needle(self, needle: needles.Needle, place: str, owner: str = "") -> None:
        self.keep(Hit(place=place, item=needle.item, sub=needle.sub, owner=owner))


def signed(item: Item) -> int:
    """The number that it holds."""
    return int.from_bytes(item.value, "little", signed=True)
