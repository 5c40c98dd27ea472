"""What becomes of rows that repeat others: their group, their verdict, and a link to the one that stays.

Three passes, the surest first: equal bytes, one picture by hash and signature, and, where features are there,
one subject by their cosine. The surprising rule: only the first row of equal bytes takes part in the later
passes, so a picture that was sent ten thousand times is looked at once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline import schema, tables
from pipeline.duplicates import DuplicateConfig
from pipeline.likeness import lookalikes, semantic
from pipeline.likeness.gathering import Gathered
from pipeline.likeness.grouping import KEEPER, Groups, grouped, linked_elsewhere
from pipeline.likeness.lookalikes import Looks
from pipeline.likeness.pieces import Pieces
from pipeline.likeness.signatures import Rows

# N rows, P pairs, D features; R rows that are out
PASSES = ("exact_duplicate", "near_duplicate", "semantic_duplicate")
JUDGED = pa.schema([schema.UID, schema.GROUP, schema.VERDICT])


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What is judged, and what is told of it."""

    rows: Gathered
    vectors_ND: NDArray[np.float32] | None
    """Features of unit length; None where nothing is judged by them."""
    few: int = semantic.FEW
    """Up to so many rows the features of each are compared with those of each."""
    counts: Counter[str] = field(default_factory=Counter)
    """Filled in place: pairs that were compared, and what crowds passed over."""


def judged(seen: Seen, config: DuplicateConfig) -> tuple[pa.Table, pa.Table]:
    """JUDGED of the rows of the last delivery, and schema.LINKS of those of them that are out."""
    passes = passes_of(seen, config)
    groups = grouped(seen.rows.starts, passes, seen.rows.rank_N)
    own_N = np.arange(*seen.rows.starts[-2:])
    out_R = own_N[groups.pass_N[own_N] != KEEPER]
    links = tables.typed(
        {
            **_names(seen, groups, out_R),
            schema.HAMMING.name: _bits_apart(seen.rows.looks, groups, out_R, mirrored=config.mirrored),
            schema.COSINE.name: _cosines(seen, groups, out_R),
            schema.ALSO_LIKE.name: _elsewhere(seen, groups, out_R, passes),
        },
        schema.LINKS,
    )
    told = (verdict(link) for piece in links.to_batches(tables.PIECE_ROWS) for link in piece.to_pylist())
    verdicts = dict(zip(out_R.tolist(), told, strict=True))
    columns = {
        schema.UID.name: _uids(seen, own_N),
        schema.GROUP.name: _uids(seen, groups.first_N[own_N]),
        schema.VERDICT.name: [verdicts.get(row) for row in own_N.tolist()],
    }
    return tables.typed(columns, JUDGED), links


def verdict(link: Mapping[str, Any]) -> str:
    """Why a row is out, in words: what it repeats, and how far it is from that.

    >>> verdict({"found_by": "near_duplicate", "keeper": "acme:1", "hamming": 3})
    'rejected:near_duplicate: acme:1 hamming 3'
    """
    distance = {"near_duplicate": "hamming", "semantic_duplicate": "cosine"}.get(link["found_by"])
    told = f"rejected:{link['found_by']}: {link['keeper']}"
    return f"{told} {distance} {link[distance]:.3g}" if distance else told


def passes_of(seen: Seen, config: DuplicateConfig) -> list[Rows]:
    """(row, row before it) [P, 2] of each pass. From the second on, one row stands for all of equal bytes."""
    sha256_NW = seen.rows.sha256_NW
    first_N = lookalikes.first_seen(
        sha256_NW[:, 0], lambda late_P, early_P: (sha256_NW[late_P] == sha256_NW[early_P]).all(1)
    )
    is_first_N = first_N == np.arange(len(first_N))
    repeats, distinct = np.flatnonzero(~is_first_N), np.flatnonzero(is_first_N)
    starts = np.searchsorted(distinct, seen.rows.starts).tolist()
    near_P2 = lookalikes.pairs(seen.rows.looks[distinct], config, starts, seen.counts)
    found = [np.stack([repeats, first_N[repeats]], 1), distinct[near_P2]]
    if seen.vectors_ND is not None and config.semantic_threshold is not None:
        # A choice of rows is a copy, of 1.5 to 6.7 kB a row: none is made where no bytes repeat.
        vectors_ND = seen.vectors_ND[distinct] if len(repeats) else seen.vectors_ND
        pieces = Pieces.after(starts, near_P2, seen.counts)
        like_P2 = semantic.pairs(vectors_ND, starts, config.semantic_threshold, pieces=pieces, few=seen.few)
        found.append(distinct[like_P2])
    return found


def _uids(seen: Seen, rows_R: Rows) -> pa.ChunkedArray:
    return seen.rows.table[schema.UID.name].take(pa.array(rows_R))


def _names(seen: Seen, groups: Groups, rows_R: Rows) -> dict[str, object]:
    return {
        schema.UID.name: _uids(seen, rows_R),
        schema.REVISION.name: seen.rows.table[schema.REVISION.name].take(pa.array(rows_R)),
        schema.GROUP.name: _uids(seen, groups.first_N[rows_R]),
        schema.KEEPER.name: _uids(seen, groups.keeper_N[rows_R]),
        schema.FOUND_BY.name: [PASSES[number] for number in groups.pass_N[rows_R].tolist()],
    }


def _bits_apart(looks: Looks, groups: Groups, rows_R: Rows, *, mirrored: bool) -> NDArray[np.uint8]:
    """Between each row and its keeper; or between its mirror image and that, if it counts and is nearer."""
    kept_R = looks.hashes_N[groups.keeper_N[rows_R]]
    apart_R: NDArray[np.uint8] = np.bitwise_count(looks.hashes_N[rows_R] ^ kept_R)
    if mirrored:
        apart_R = np.minimum(apart_R, np.bitwise_count(looks.mirrored_N[rows_R] ^ kept_R))
    return apart_R


def _cosines(seen: Seen, groups: Groups, rows_R: Rows) -> list[float | None]:
    if seen.vectors_ND is None:
        return [None] * len(rows_R)
    pairs_P2 = np.stack([rows_R, groups.keeper_N[rows_R]], 1)
    return list(semantic.cosines(seen.vectors_ND, pairs_P2).tolist())


def _elsewhere(seen: Seen, groups: Groups, rows_R: Rows, passes: Sequence[Rows]) -> list[list[str]]:
    late_P, other_P = linked_elsewhere(groups, passes).T
    found: dict[int, list[str]] = {}
    for row, uid in zip(late_P.tolist(), _uids(seen, other_P).to_pylist(), strict=True):
        found.setdefault(row, []).append(uid)
    return [found.get(row, []) for row in rows_R.tolist()]
