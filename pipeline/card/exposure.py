"""What retrieval shows: how often each member of the index is cited, and whose pictures these are.

Counted twice: in the candidate lists of ``neighbors``, which say what may be shown beside a target, and in
the spans of the training packs, which say what is. A member that nobody cites counts as well. A row is held
here, for all shards at once, by its uid, its contributor and 8 bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from infra.corpus import Corpus, Version
from pipeline import packs, refs, schema, tables
from pipeline.blocks import Blocks
from pipeline.card import spread
from pipeline.card.associations import Axis
from pipeline.card.figures import Figure, few, share
from pipeline.card.matching import Ints
from pipeline.card.parts import Part
from pipeline.card.shifts import UNMARKED
from pipeline.neighbors import NEIGHBORS
from pipeline.packed import Modality, Role
from pipeline.split import TRAIN


@dataclass(slots=True)
class Members:
    """The rows that retrieval may show, of the shards seen so far."""

    axes: tuple[Axis, ...]
    uids: list[pa.Array] = field(default_factory=list)
    masks: list[Ints] = field(default_factory=list)
    contributors: list[pa.Array] = field(default_factory=list)

    def add(self, part: Part, masks: Ints) -> None:
        names = part.rows.column_names
        if schema.SPLIT.name not in names:
            return
        in_training = pc.fill_null(pc.equal(part.column(schema.SPLIT), TRAIN), fill_value=False)
        mask = pc.and_(pa.array(part.kept), pc.and_(part.column(schema.MAY_BE_NEIGHBOR), in_training))
        self.uids.append(part.column(schema.UID).filter(mask))
        self.masks.append(masks[np.asarray(mask, np.bool_)])
        self.contributors.append(part.column(schema.CONTRIBUTOR).filter(mask))

    def figures(self, corpus: Corpus, version: Version) -> list[Figure]:
        """Nothing of what the version has not built."""
        if not self.uids:
            return []
        uids = pa.concat_arrays(self.uids)
        masks, contributors = np.concatenate(self.masks), pa.concat_arrays(self.contributors)
        members = "members: rows that are kept, of the split train, and may_be_neighbor"
        found = []
        for name, step, read, file, title, counted in (
            (
                "candidates",
                "neighbors",
                candidates,
                NEIGHBORS,
                "Candidates: what may be shown beside a target",
                f"entries of candidates by uid, over {members}",
            ),
            (
                "shown",
                "pack",
                shown,
                "*.arrow",
                "Packs: what is shown beside a target in training",
                f"spans of the training packs with role neighbor and modality image by uid, over {members}",
            ),
        ):
            if step in version.artifacts:
                cited = citations(read(corpus, version), uids)
                values = exposed(cited, masks, contributors, self.axes)
                figure = Figure(
                    name=f"retrieval.{name}",
                    title=title,
                    step=step,
                    file=file,
                    counted=counted,
                    values=values,
                )
                found.append(figure)
        return found


def citations(cites: Iterable[pa.Array], uids: pa.Array) -> Ints:
    """How often each of the uids is cited. Looked up once: a table of a million takes a second to make."""
    counted = [pc.value_counts(one) for one in cites]
    if not counted:
        return np.zeros(len(uids), np.int64)
    every = pa.concat_arrays(counted)
    places = pc.index_in(every.field("values"), value_set=uids)
    there = pc.is_valid(places)
    at, weights = (np.asarray(one.filter(there)) for one in (places, every.field("counts")))
    return np.bincount(at, weights=weights, minlength=len(uids)).astype(np.int64)


def candidates(corpus: Corpus, version: Version) -> Iterator[pa.Array]:
    """The uids cited, shard by shard."""
    for shard in corpus.artifact(version, "neighbors").shards.values():
        table = tables.read_parquet(refs.of(corpus.store, shard, NEIGHBORS), [schema.CANDIDATES])
        for chunk in table[schema.CANDIDATES.name].chunks:
            yield pc.struct_field(pc.list_flatten(chunk), "uid")


def shown(corpus: Corpus, version: Version) -> Iterator[pa.Array]:
    """The uids cited, block by block."""
    blocks = Blocks(packs.listed(corpus, version, TRAIN), keep=1)
    for number in range(len(blocks)):
        spans = pc.list_flatten(blocks.block(number).record["spans"])
        is_image = pc.equal(pc.struct_field(spans, "modality"), pa.scalar(int(Modality.IMAGE), pa.uint8()))
        is_neighbor = pc.equal(pc.struct_field(spans, "role"), pa.scalar(int(Role.NEIGHBOR), pa.uint8()))
        yield pc.struct_field(spans, "uid").filter(pc.and_(is_image, is_neighbor))


def exposed(cited: Ints, masks: Ints, contributors: pa.Array, axes: Sequence[Axis]) -> dict[str, Any]:
    first = max(len(cited) // 100, 1)
    coded = contributors.dictionary_encode()
    of_contributor = np.bincount(np.asarray(coded.indices), weights=cited).astype(np.int64)
    return {
        "members": len(cited),
        "citations": int(cited.sum()),
        "never_cited": int((cited == 0).sum()),
        "gini": spread.gini(cited),
        "top_1_percent_members": first,
        "top_1_percent_share": spread.top(cited, first),
        "most_cited": int(cited.max(initial=0)),
        "lorenz": spread.lorenz(cited),
        "contributors_top_10_share": spread.top(of_contributor, 10),
        "groups": list(skews(cited, masks, axes)),
    }


def skews(cited: Ints, masks: Ints, axes: Sequence[Axis]) -> Iterator[dict[str, Any]]:
    """Of each group, its part of the members and of the citations."""
    total = int(cited.sum())
    for axis in axes:
        values = [
            (label.name, (masks >> bit & 1) != 0)
            for label, bit in zip(axis.groups, axis.bits.tolist(), strict=True)
        ]
        for name, mask in (*values, (UNMARKED, (masks & axis.mask) == 0)):
            count, citations = int(mask.sum()), int(cited[mask].sum())
            members = None if few(count, len(masks)) else count
            hidden = members is None or few(citations, total)
            indexed = share(members, len(masks))
            retrieved = None if hidden else share(citations, total)
            yield {
                "axis": axis.name,
                "group": name,
                "members": members,
                "citations": None if hidden else citations,
                "share_of_members": indexed,
                "share_of_citations": retrieved,
                "log2_ratio": float(np.log2(retrieved / indexed)) if retrieved and indexed else None,
            }
