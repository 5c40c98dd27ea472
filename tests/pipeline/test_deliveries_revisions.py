"""Of an asset's revisions exactly one counts, and it does not matter which others came."""

from __future__ import annotations

import hashlib

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from pipeline.revisions import CONTESTED, REVISION_SEEN, REVISIONS, REVOKED, SUPERSEDED, images, outdated
from pipeline.step import slot_name

Arrived = list[dict[str, int | None]]
ARRIVED = st.lists(st.dictionaries(st.sampled_from("abcde"), st.integers(0, 3)), max_size=6)
"""For each delivery, in order: the revision of each asset that it brought."""
FAULTY = None


def row(uid: str, revision: int | None, *, says: int = 0, withdrawn: bool = False) -> dict[str, object]:
    """``says`` tells the contents of two records of one revision apart."""
    content = bytes([revision or 0, says]) * 16
    made = {"uid": uid, "revision": revision, "withdrawn": withdrawn, "contributor": "", "model_releases": []}
    # An image of its own for each asset and revision.
    image = hashlib.sha256(f"{uid} {revision}".encode()).digest()
    return made | ({} if revision is FAULTY else {"content": content, "image": image})


def judged(*arrived: list[dict[str, object]], corrections: tuple[int, ...] = ()) -> dict[str, dict[str, str]]:
    made = {
        slot_name(number, 0): pa.Table.from_pylist(rows, schema=REVISIONS)
        for number, rows in enumerate(arrived)
    }
    generations = {slot_name(number, 0).partition("-")[0] for number in corrections}
    return outdated(made, generations)


def plain(arrived: Arrived) -> list[list[dict[str, object]]]:
    return [[row(uid, revision) for uid, revision in rows.items()] for rows in arrived]


@given(ARRIVED)
def test_every_asset_keeps_the_first_row_of_its_highest_revision_and_no_other(arrived: Arrived) -> None:
    found = judged(*plain(arrived))
    assert all(found.values())
    for uid in {uid for rows in arrived for uid in rows}:
        came = [(rows[uid] or 0, slot) for slot, rows in enumerate(arrived) if uid in rows]
        highest = max(revision for revision, _ in came)
        current = min(slot for revision, slot in came if revision == highest)
        for revision, slot in came:
            reason = SUPERSEDED if revision < highest else REVISION_SEEN
            told = found.get(slot_name(slot, 0), {}).get(uid)
            assert told == (None if slot == current else reason)


@given(ARRIVED, st.dictionaries(st.sampled_from("fgh"), st.integers(0, 3)))
def test_assets_that_are_new_change_nothing_that_was_said(arrived: Arrived, new: dict[str, int]) -> None:
    assert judged(*plain([*arrived, {**new}])) == judged(*plain(arrived))


@given(ARRIVED, st.integers(0, 5))
def test_once_a_record_says_revoked_no_revision_of_the_asset_is_left(arrived: Arrived, at: int) -> None:
    rows = plain([*arrived, {"a": 1}])
    rows.insert(min(at, len(arrived)), [row("a", 1, withdrawn=True)])
    found = judged(*rows)
    for number, delivered in enumerate(rows):
        for one in delivered:
            if one["uid"] == "a" and not one["withdrawn"]:
                assert found[slot_name(number, 0)]["a"] in (REVOKED, SUPERSEDED, REVISION_SEEN)


def test_a_faulty_record_leaves_the_asset_to_a_person_until_a_higher_revision_comes() -> None:
    first, second, third = (slot_name(number, 0) for number in range(3))
    assert judged([row("a", 3)], [row("a", FAULTY)]) == {first: {"a": CONTESTED}}
    assert judged([row("a", FAULTY)], [row("a", 3)]) == {}
    again = judged([row("a", 3)], [row("a", FAULTY)], [row("a", 3)])
    assert again == {first: {"a": CONTESTED}, third: {"a": REVISION_SEEN}}
    assert judged([row("a", 3)], [row("a", FAULTY)], [row("a", 4)]) == {first: {"a": SUPERSEDED}}
    assert judged([row("a", FAULTY)], [row("a", FAULTY)]) == {}
    assert second not in again


def test_two_records_of_one_revision_that_differ_leave_the_asset_to_a_person() -> None:
    first, second, _ = (slot_name(number, 0) for number in range(3))
    told = {first: {"a": CONTESTED}, second: {"a": REVISION_SEEN}}
    assert judged([row("a", 3)], [row("a", 3, says=1)]) == told
    assert judged([row("a", 3)], [row("a", 3, says=1)], [row("a", 4, says=1)]) == {
        first: {"a": SUPERSEDED},
        second: {"a": SUPERSEDED},
    }


def test_a_correction_that_does_not_raise_the_revision_leaves_the_asset_to_a_person() -> None:
    first, second = slot_name(0, 0), slot_name(1, 0)
    lost = [[row("a", 3)], [row("a", 2)]]
    assert judged(*lost) == {second: {"a": SUPERSEDED}}
    assert judged(*lost, corrections=(1,)) == {first: {"a": CONTESTED}, second: {"a": SUPERSEDED}}
    assert judged(*lost, corrections=(0,)) == {second: {"a": SUPERSEDED}}
    assert judged([row("a", 3)], [row("a", 3)], corrections=(1,)) == {second: {"a": REVISION_SEEN}}


def test_the_images_of_an_asset_are_those_of_all_its_records() -> None:
    rows = [row("x:a", 1), row("x:b", 2), row("x:c", FAULTY)], [row("x:a", 2), row("y:a", 3)]
    made = {slot_name(i, 0): pa.Table.from_pylist(some, schema=REVISIONS) for i, some in enumerate(rows)}
    found = images(made, [("asset", "x", name) for name in "acz"])
    hashes = sorted(hashlib.sha256(f"x:a {number}".encode()).hexdigest() for number in (1, 2))
    assert found == {("asset", "x", "a"): hashes}


def test_an_image_that_a_record_says_is_revoked_is_out_under_every_id_of_its_provider() -> None:
    gone = row("x:a", 1, withdrawn=True)
    twins = [row(uid, 0) | {"image": gone["image"]} for uid in ("x:b", "y:c")]
    assert judged([gone, twins[0]], [twins[1]]) == {slot_name(0, 0): {"x:b": REVOKED}}


def test_a_corpus_without_rows_has_nothing_out_of_date() -> None:
    assert outdated({}) == {}
    assert judged([], []) == {}
