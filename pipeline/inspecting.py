"""``pardalis packs inspect``: a packed row as a person reads it, as pictures and text, with who is in it.

Texts and pictures are decoded from the ids that lie in the row, so the page shows what a model sees, not what
was delivered. The surprising rule: an asset that may be trained on need not be one that may be shown; its
place stays empty, as does that of one which was revoked since.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from infra.artifact import Shard
from infra.corpus import Corpus, Version
from infra.options import ReadOptions, answer
from pipeline import packs, pages, refs, refused, schema, tables
from pipeline.blocks import Blocks, block_rows
from pipeline.examples import KINDS
from pipeline.neighbors import NEIGHBORS
from pipeline.packed import Modality, Role, Via
from pipeline.reviewing.thumbnails import png
from pipeline.step import ROWS
from pipeline.tokenizer.tokenizing import image_side, load_bpe, load_vq
from tokenizer_service import coding, vocabulary

MOST = 20
"""Rows of a page: 4 documents of 4 pairs make 16 pictures a row."""
DRAWN = 3
"""Rows that are shown where none is named: the first, and others spread over the packs."""
HOLDERS = (schema.UID, schema.LICENSES, schema.CONTRIBUTOR, schema.ATTRIBUTION, schema.MAY_BE_SHOWN)


def inspect(
    *,
    sequence: tuple[int, ...] = (),
    uid: str | None = None,
    kind: str = KINDS[0],
    page: Path | None = None,
    options: ReadOptions | None = None,
) -> None:
    """Show packed rows: their documents, texts, pictures, neighbors and licences.

    Example: pardalis packs inspect --sequence 7 --page row.html

    Parameters
    ----------
    sequence
        Numbers of rows, in the order of the shards; give it again for more. Without it, three are drawn.
    uid
        Rows that hold this asset, as PROVIDER:ASSET_ID; the first three.
    kind
        train, validation (held-out targets with neighbors) or validation-alone.
    page
        HTML file with pictures; without it, text alone.
    """
    if kind not in KINDS:
        raise ValueError(f"--kind {kind}: there are {', '.join(KINDS)}")
    if len(sequence) > MOST:
        raise ValueError(f"--sequence was given {len(sequence)} times; a page holds {MOST} rows")
    place = None if page is None else pages.place(page)
    options = options or ReadOptions()
    corpus = options.open()
    version = corpus.newest()
    shelf = Shelf.of(corpus, version, kind)
    numbers = [*sequence] or (shelf.holding(uid) if uid else shelf.spread())
    rows = [shelf.row(number) for number in numbers]
    told = Words.of(corpus, version, {span["uid"] for row in rows for span in row.spans})
    found = [told.row(row) for row in rows]
    made = packs.slots(corpus, version, kind)
    fill = packs.fill(made)
    facts = {
        "corpus": corpus.store.uri,
        "version": version.number,
        "kind": kind,
        "packs": packs.facts(fill),
        "made_by": made_by(version, made[0]),
        "licenses": packs.by_license(made),
        "rows": found,
    }
    if place:
        pictures = Pictures.of(corpus, version).drawn(rows, found)
        pages.write(place, "packs.html", **facts, fill=packs.filled(fill), pictures=pictures, paired=paired)
    answer(facts, "\n".join(lines(facts, place)), json=options.json)


def made_by(version: Version, first: Shard) -> dict[str, str]:
    """Fingerprints of all that made the rows: tokenizers by content, what chose the neighbors by key."""
    tokenizers = {f"{name} tokenizer": digest for name, digest in first.facts["made_by"].items()}
    chain = ("pack", "neighbors", "index", "embed", "split", "decide")
    return tokenizers | {name: version.artifacts[name] for name in chain if name in version.artifacts}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A row as it lies in its block, after what is revoked was taken out."""

    sequence: int
    where: str
    ids_T: NDArray[np.uint16]
    num_tokens: int
    documents: Sequence[Mapping[str, Any]]
    spans: Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shelf:
    """The rows of a kind by their numbers."""

    blocks: Blocks
    ends: NDArray[np.int64]
    names: Sequence[str]

    @staticmethod
    def of(corpus: Corpus, version: Version, kind: str) -> Shelf:
        listed = packs.listed(corpus, version, kind, revoked=refused.uids(corpus, version))
        rows = block_rows(shard.info for shard in listed)
        if not rows.sum():
            raise ValueError(f"version {version.number} of {corpus.store.uri} has no {kind} packs")
        names = [
            f"block {number} of {shard.name}"
            for shard in listed
            for number in range(len(shard.info["blocks"]))
        ]
        blocks = Blocks(listed, keep=64)
        return Shelf(blocks=blocks, ends=np.cumsum(rows), names=names)

    def spread(self) -> list[int]:
        return sorted({int(place) for place in np.linspace(0, int(self.ends[-1]) - 1, DRAWN)})

    def holding(self, uid: str) -> list[int]:
        """The first rows that hold an asset."""
        found: list[int] = []
        for number, end in enumerate(self.ends.tolist()):
            record = self.blocks.block(number).record
            rows = [
                place
                for place, spans in enumerate(record["spans"].to_pylist())
                if any(s["uid"] == uid for s in spans)
            ]
            found += [end - record.num_rows + place for place in rows]
            if len(found) >= DRAWN:
                break
        if not found:
            raise ValueError(f"no row holds {uid!r}; `pardalis explain {uid}` says why")
        return found[:DRAWN]

    def row(self, sequence: int) -> Row:
        if not 0 <= sequence < self.ends[-1]:
            raise ValueError(f"--sequence {sequence}: the rows are numbered 0 to {self.ends[-1] - 1}")
        number = int(np.searchsorted(self.ends, sequence, side="right"))
        block = self.blocks.block(number)
        place = sequence - (int(self.ends[number]) - block.record.num_rows)
        facts = block.record.slice(place, 1).drop_columns(["tokens"]).to_pylist()[0]
        return Row(
            sequence=sequence,
            where=f"row {place} of {self.names[number]}",
            ids_T=block.tokens_RT[place],
            num_tokens=facts["num_tokens"],
            documents=facts["documents"],
            spans=facts["spans"],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """What is told of spans: texts of their ids, rights of the catalog, scores of the neighbor lists."""

    bpe: Any
    holders: Mapping[str, Mapping[str, Any]]
    scores: Mapping[tuple[str, str], float]

    @staticmethod
    def of(corpus: Corpus, version: Version, uids: Collection[str]) -> Words:
        split, neighbors = (corpus.artifact(version, name).shards.values() for name in ("split", "neighbors"))
        rows = (row for shard in split for row in _rows(corpus, shard, ROWS, HOLDERS, uids))
        lists = (
            row
            for shard in neighbors
            for row in _rows(corpus, shard, NEIGHBORS, (schema.UID, schema.CANDIDATES), uids)
        )
        return Words(
            bpe=load_bpe(corpus, version),
            holders={row["uid"]: row for row in rows},
            scores={
                (row["uid"], candidate["uid"]): candidate["score"]
                for row in lists
                for candidate in row["candidates"]
            },
        )

    def row(self, row: Row) -> dict[str, Any]:
        documents = [
            {
                **document,
                "spans": [self.span(row, document, span) for span in row.spans if span["document"] == number],
            }
            for number, document in enumerate(row.documents)
        ]
        return {
            "sequence": row.sequence,
            "where": row.where,
            "num_tokens": row.num_tokens,
            "width": len(row.ids_T),
            "documents": documents,
        }

    def span(self, row: Row, document: Mapping[str, Any], span: Mapping[str, Any]) -> dict[str, Any]:
        ids = row.ids_T[span["start"] : span["start"] + span["length"]]
        holder = self.holders.get(span["uid"], {})
        target = document["example_id"].rpartition("#")[0]
        revoked = bool(span["length"]) and not ids.any()  # <pad> occurs in no span that was packed
        is_text = span["modality"] == Modality.TEXT
        return {
            "uid": span["uid"],
            "revision": span["revision"],
            "modality": Modality(span["modality"]).name.lower(),
            "role": Role(span["role"]).name.lower(),
            "via": Via(span["via"]).name.lower(),
            "start": span["start"],
            "length": span["length"],
            "score": self.scores.get((target, span["uid"])) if span["role"] == Role.NEIGHBOR else None,
            "revoked": revoked,
            "text": self.bpe.decode(vocabulary.to_text(ids)) if is_text and not revoked else None,
            "licenses": holder.get("licenses") or [],
            "contributor": holder.get("contributor"),
            "attribution": holder.get("attribution"),
            "may_be_shown": bool(holder.get("may_be_shown")),
        }


def paired(spans: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A text and the image behind it, of one asset; what a cut has parted stands alone."""
    found: list[dict[str, Any]] = []
    for span in spans:
        last = found[-1] if found else None
        if span["modality"] == "text":
            found.append({"text": span, "image": span})
        elif last and last["image"] is last["text"] and last["text"]["uid"] == span["uid"]:
            last["image"] = span
        else:
            found.append({"text": None, "image": span})
    return found


def _rows(
    corpus: Corpus, shard: Shard, file: str, columns: Sequence[pa.Field], uids: Collection[str]
) -> list[dict[str, Any]]:
    table = tables.read_parquet(refs.of(corpus.store, shard, file), columns)
    wanted = pc.is_in(table[schema.UID.name], value_set=pa.array(sorted(uids), pa.string()))
    found: list[dict[str, Any]] = table.filter(wanted).to_pylist()
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Pictures:
    model: Any
    codes: int
    """Of a whole picture."""

    @staticmethod
    def of(corpus: Corpus, version: Version) -> Pictures:
        model = load_vq(corpus, version)
        side = image_side(corpus, version) // model.config.downsample
        return Pictures(model=model, codes=side * side)

    def drawn(self, rows: Sequence[Row], found: Sequence[Mapping[str, Any]]) -> dict[tuple[int, int], str]:
        """By (sequence, start): the image spans that may be shown, as data addresses."""
        wanted = [
            (row, span)
            for row, told in zip(rows, found, strict=True)
            for document in told["documents"]
            for span in document["spans"]
            if span["modality"] == "image" and span["may_be_shown"] and not span["revoked"]
        ]
        pictures: dict[tuple[int, int], str] = {}
        for row, span in wanted:
            codes = vocabulary.to_codes(row.ids_T[span["start"] : span["start"] + span["length"]])
            if len(codes) == self.codes:  # of a stream that was cut, a part may lie here
                (picture,) = coding.decode_codes(self.model, codes[None])
                pictures[row.sequence, span["start"]] = png(picture)
        return pictures


def lines(facts: Mapping[str, Any], page: Path | None) -> Iterator[str]:
    yield f"{facts['corpus']}, version {facts['version']}, {facts['kind']}"
    for row in facts["rows"]:
        yield f"sequence {row['sequence']}: {row['num_tokens']} of {row['width']} tokens, {row['where']}"
        for document in row["documents"]:
            yield f"  {document['start']:>5}  document {document['example_id']}, {document['length']} tokens"
            for span in document["spans"]:
                yield f"  {span['start']:>5}    {told(span)}"
    if page:
        yield f"page: {page}"


def told(span: Mapping[str, Any]) -> str:
    found = f", found by {span['via']}" if span["via"] != "nothing" else ""
    score = f" ({span['score']:.3f})" if span["score"] is not None else ""
    words = (
        "revoked"
        if span["revoked"]
        else span["text"]
        if span["text"] is not None
        else f"{span['length']} codes"
    )
    licenses = ", ".join(span["licenses"]) or "no licence"
    return f"{span['role']} {span['modality']} {span['uid']}{found}{score} [{licenses}]: {words}"
