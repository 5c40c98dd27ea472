"""What the training split holds for whoever copies: its pictures, its instruction examples and their codes.

The surprising rule: a derived picture of training is nowhere kept as pixels. It is read back from the packs
as codes, so a copy of it is what a model that had learnt it by heart would draw.

N pictures, D embedding, T codes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Generic, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from infra.artifact import Shard
from infra.corpus import Corpus, NoCorpus, Version
from infra.telemetry import say
from pipeline import captions, embed, packs, refs, schema, tables
from pipeline.blocks import Blocks
from pipeline.records import RECORDS as DELIVERED
from pipeline.split import TRAIN, VALIDATION
from retrieval.encoders import normalised
from tokenizer_service import vocabulary
from trainer import tasks
from trainer.evaluation.rights import Rights
from trainer.instruct import build, importing, listing
from trainer.instruct.world import DERIVED
from trainer.marks import Marks
from trainer.studio import Pixels, Studio
from trainer.tasks import Picture, Record

Codes = NDArray[np.int64]
Vectors = NDArray[np.float32]
R = TypeVar("R", bound=Record)
R_co = TypeVar("R_co", bound=Record, covariant=True)
MOST = 4000
"""Training pictures that a copy is looked for among, the first by hash: at 256 px they take 0.8 GB."""

MOST_DERIVED = 2000
"""Derived pictures of a task among which a copy is looked for: at 256 px they take 0.4 GB, and each
has to be decoded anew."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed(Generic[R_co]):
    """An instruction example without its pictures."""

    name: str
    record: R_co
    sources: tuple[str, ...]

    @property
    def subject(self) -> tuple[str, ...]:
        """What it is about: items of one subject are hardly two."""
        return self.sources or (self.name,)


def listed(corpus: Corpus, version: Version, kind: str) -> Iterator[Listed[Record]]:
    """All instruction examples of a split. Raises ValueError where the version has none."""
    if build.STEP not in version.artifacts:
        raise NoCorpus(
            f"version {version.number} of {corpus.store.uri} has no instruction data; run "
            "`pardalis instruct make`"
        )
    for shard in packs.slots(corpus, version, kind, step=build.STEP):
        yield from _of_shard(corpus, shard)


def _of_shard(corpus: Corpus, shard: Shard) -> Iterator[Listed[Record]]:
    columns = [listing.EXAMPLE, listing.PROMPT, listing.SOURCES]
    for row in tables.read_parquet(refs.of(corpus.store, shard, listing.RECORDS), columns).to_pylist():
        segments = [
            one["text"] if one["picture"] is None else Picture(one["picture"])
            for one in row[listing.PROMPT.name]
        ]
        yield Listed(
            name=row[listing.EXAMPLE.name],
            record=tasks.parse(segments),
            sources=tuple(row[listing.SOURCES.name]),
        )


def pictures(corpus: Corpus, version: Version, names: Collection[str]) -> dict[str, dict[str, Pixels]]:
    """Of held-out examples, by name and uid. Only theirs are decoded: 6,916 of 64 px take 3 s."""
    wanted, found = pa.array(sorted(names), listing.EXAMPLE.type), dict[str, dict[str, Pixels]]()
    for shard in packs.slots(corpus, version, VALIDATION, step=build.STEP):
        ref = refs.of(corpus.store, shard, listing.RECORDS)
        table = tables.read_parquet(ref, [listing.EXAMPLE, listing.PICTURES])
        for row in table.filter(pc.is_in(table[listing.EXAMPLE.name], value_set=wanted)).to_pylist():
            shown = row[listing.PICTURES.name]
            found[row[listing.EXAMPLE.name]] = {one["uid"]: listing.decoded(one["image"]) for one in shown}
    return found


def answers(corpus: Corpus, version: Version, revisions: Mapping[str, int]) -> dict[Record, tuple[str, ...]]:
    """All that people answered to the questions that these assets, in these revisions, brought along."""
    found: dict[Record, tuple[str, ...]] = {}
    for shard in corpus.artifact(version, "records").shards.values():
        for asset in build.own_records(refs.of(corpus.store, shard, DELIVERED), revisions):
            try:
                found.update(importing.answered(asset))
            except ValueError as error:  # what it brought along could not be read by the build either
                say(f"{error}; of its questions one answer each is true")
    return found


def of_kind(found: Iterable[Listed[Record]], kind: type[R]) -> Iterator[Listed[R]]:
    """Those of one task."""
    for one in found:
        if isinstance(one.record, kind):
            yield Listed(name=one.name, record=one.record, sources=one.sources)


def chosen(found: Sequence[Listed[R]], num: int) -> list[Listed[R]]:
    """So many in the order of their hashes, one of each subject before a second of any."""
    ordered = sorted(found, key=lambda one: captions.digest("evaluated", one.name))
    before: dict[tuple[str, ...], int] = {}
    ranks = [before.setdefault(one.subject, 0) for one in ordered]
    for number, one in enumerate(ordered):
        ranks[number] = before[one.subject]
        before[one.subject] += 1
    return [ordered[i] for i in sorted(range(len(ordered)), key=ranks.__getitem__)[:num]]


class Known:
    """The training split without what is refused, read when it is first asked for."""

    def __init__(self, corpus: Corpus, version: Version, studio: Studio, rights: Rights) -> None:
        self.corpus = corpus
        self.version = version
        self.studio = studio
        self.rights = rights

    @cached_property
    def uids(self) -> tuple[str, ...]:
        """Training assets of the index, in the order of their hashes, at most :data:`MOST`."""
        members = self.studio.library.members
        split = members[schema.SPLIT.name].to_pylist()
        uids = members[schema.UID.name].to_pylist()
        found = [
            uid
            for uid, of in zip(uids, split, strict=True)
            if of == TRAIN and uid in self.studio.tokens and self.rights.may_use([uid])
        ]
        return tuple(sorted(found, key=lambda uid: captions.digest("known", uid))[:MOST])

    @cached_property
    def codes_NT(self) -> Codes:
        return np.stack([self.studio.tokens[uid].codes for uid in self.uids]).astype(np.int64)

    @cached_property
    def pictures(self) -> list[Pixels]:
        """[side, side, 3] of each uid."""
        return [self.studio.picture(uid) for uid in self.uids]

    @cached_property
    def marks(self) -> Marks:
        """By which a drawn picture is known to be one of them again."""
        return Marks.of(self.pictures)

    @cached_property
    def changeable(self) -> NDArray[np.int64]:
        """Places in :attr:`uids` of those of which pictures may be made."""
        return np.flatnonzero([self.rights.may_derive([uid]) for uid in self.uids])

    @cached_property
    def vectors(self) -> Mapping[str, Vectors]:
        """Image vectors [D] of assets of either split, of unit length."""
        shards = self.corpus.artifact(self.version, "embed").shards.values()
        read = [tables.read_ipc(refs.of(self.corpus.store, shard, embed.EMBEDDINGS)) for shard in shards]
        table = pa.concat_tables(read)
        images_ND, _ = embed.vectors(table)
        return dict(zip(table[schema.UID.name].to_pylist(), normalised(images_ND), strict=True))

    @cached_property
    def vectors_ND(self) -> Vectors:
        return np.stack([self.vectors[uid] for uid in self.uids])

    @cached_property
    def examples(self) -> list[Listed[Record]]:
        """Instruction examples of training."""
        return self._usable(TRAIN)

    @cached_property
    def held_out(self) -> list[Listed[Record]]:
        """Those of the held-out split."""
        return self._usable(VALIDATION)

    def _usable(self, kind: str) -> list[Listed[Record]]:
        """An example goes where anything goes that it was made of."""
        found = listed(self.corpus, self.version, kind)
        return [one for one in found if self.rights.may_use(one.sources)]

    def trained(self, kind: type[R]) -> list[Listed[R]]:
        """Those of a task."""
        return list(of_kind(self.examples, kind))

    def derived(self, kind: type[Record]) -> list[str]:
        """Derived pictures of the training examples of a task, in the order of their hashes."""
        found = {
            picture.uid
            for one in self.trained(kind)
            for picture in tasks.pictures(one.record)
            if picture.uid.startswith(DERIVED)
        }
        return sorted(found, key=lambda uid: captions.digest("known", uid))

    @cached_property
    def names(self) -> list[str]:
        """Descriptions of all assets of the index, the longest first."""
        found = {name.lower() for name in self.studio.library.members[schema.DESCRIPTION.name].to_pylist()}
        return sorted(found, key=lambda name: (-len(name), name))

    def description(self, uid: str) -> str:
        return str(self.studio.fact(uid, schema.DESCRIPTION))

    def nearest(self, vector_D: Vectors, k: int = 1) -> list[str]:
        """The training pictures most like it, by the corpus's encoder."""
        return [self.uids[i] for i in np.argsort(-(self.vectors_ND @ vector_D), kind="stable")[:k]]

    def vector(self, picture: str, sources: Sequence[str]) -> Vectors | None:
        """Of an asset its own; of what was made of assets, their mean; None where none of them has one."""
        of = [
            self.vectors[uid]
            for uid in ([picture] if picture in self.vectors else sources)
            if uid in self.vectors
        ]
        return normalised(np.mean(of, axis=0)[None])[0] if of else None

    def codes(self, wanted: Collection[str]) -> dict[str, Codes]:
        """Of training pictures, assets or derived, by uid; those that no pack holds are left out."""
        found = {
            uid: self.studio.tokens[uid].codes.astype(np.int64) for uid in wanted if uid in self.studio.tokens
        }
        missing = set(wanted) - found.keys()
        return {**found, **self._packed(missing)} if missing else found

    def _packed(self, wanted: Collection[str]) -> dict[str, Codes]:
        found: dict[str, Codes] = {}
        blocks = Blocks(packs.listed(self.corpus, self.version, TRAIN, step=build.STEP), keep=1)
        for number in range(len(blocks)):
            block = blocks.block(number)
            for ids_T, spans in zip(block.tokens_RT, block.record.column(3).to_pylist(), strict=True):
                for span in spans:
                    ids = ids_T[span["start"] :][: span["length"]]
                    if span["uid"] in wanted and vocabulary.is_image(ids).all() and len(ids):
                        found.setdefault(span["uid"], vocabulary.to_codes(ids))
        blocks.close()
        return found
