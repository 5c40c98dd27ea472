"""Of an asset's revisions exactly one counts, and it does not matter which others came."""

from __future__ import annotations

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from pipeline.revisions import REVISION_SEEN, REVISIONS, SUPERSEDED, outdated

ARRIVED = st.lists(st.dictionaries(st.sampled_from("abcde"), st.integers(0, 3)), max_size=6)
"""For each slot, in order: the revision of each asset that it brought."""


def table(revisions: dict[str, int]) -> pa.Table:
    rows = [{"uid": uid, "revision": number} for uid, number in revisions.items()]
    return pa.Table.from_pylist(rows, schema=REVISIONS)


def judged(arrived: list[dict[str, int]]) -> dict[str, dict[str, str]]:
    return outdated({f"{number:03d}-00000": table(rows) for number, rows in enumerate(arrived)})


@given(ARRIVED)
def test_every_asset_keeps_the_first_row_of_its_highest_revision_and_no_other(
    arrived: list[dict[str, int]],
) -> None:
    found = judged(arrived)
    assert all(found.values())
    for uid in {uid for rows in arrived for uid in rows}:
        came = [(rows[uid], slot) for slot, rows in enumerate(arrived) if uid in rows]
        highest = max(revision for revision, _ in came)
        current = min(slot for revision, slot in came if revision == highest)
        for revision, slot in came:
            reason = SUPERSEDED if revision < highest else REVISION_SEEN
            told = found.get(f"{slot:03d}-00000", {}).get(uid)
            assert told == (None if slot == current else reason)


@given(ARRIVED, st.dictionaries(st.sampled_from("fgh"), st.integers(0, 3)))
def test_assets_that_are_new_change_nothing_that_was_said(
    arrived: list[dict[str, int]], new: dict[str, int]
) -> None:
    assert judged([*arrived, new]) == judged(arrived)


def test_a_corpus_without_rows_has_nothing_out_of_date() -> None:
    assert outdated({}) == {}
    assert judged([{}, {}]) == {}
