"""The tree against RFC 6962's own recursion, and its proofs against liars."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.merkle import EMPTY, Absence, Inclusion, Tree, is_absent, is_in

UIDS = st.text("abé:\U0001f34e", min_size=1, max_size=4)
SETS = st.sets(UIDS, max_size=20)


def by_recursion(leaves: Sequence[bytes]) -> bytes:
    """MTH of RFC 6962, section 2.1, as it is written there."""
    if not leaves:
        return hashlib.sha256().digest()
    if len(leaves) == 1:
        return hashlib.sha256(b"\0" + leaves[0]).digest()
    half = 1
    while half * 2 < len(leaves):
        half *= 2
    return hashlib.sha256(b"\1" + by_recursion(leaves[:half]) + by_recursion(leaves[half:])).digest()


@given(SETS)
def test_the_root_is_that_of_the_rfc(uids: set[str]) -> None:
    assert Tree(uids).root == by_recursion(sorted(uid.encode() for uid in uids)).hex()


def test_the_root_of_the_rfcs_first_test_vectors() -> None:
    """Of Certificate Transparency: nothing, and the empty leaf."""
    assert EMPTY == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert Tree([""]).root == "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"


@given(SETS, UIDS)
def test_who_is_in_is_proved_in_and_who_is_not_is_proved_absent(uids: set[str], uid: str) -> None:
    tree = Tree(uids)
    if uid in uids:
        found = tree.inclusion(uid)
        assert is_in(tree.root, len(uids), found)
        assert len(found.path) <= max(len(uids) - 1, 0).bit_length()
        with pytest.raises(ValueError, match="is in the tree"):
            tree.absence(uid)
    else:
        assert is_absent(tree.root, tree.absence(uid))
        with pytest.raises(ValueError, match="is not among"):
            tree.inclusion(uid)


@given(st.sets(UIDS, min_size=2, max_size=20), UIDS, st.data())
def test_a_proof_is_of_one_root(uids: set[str], uid: str, data: st.DataObject) -> None:
    """Of a set with one member more, or with the uid in it, the same proof says nothing."""
    tree = Tree(uids - {uid})
    proof = tree.absence(uid)
    assert not is_absent(Tree(uids | {uid}).root, proof)
    found = tree.inclusion(data.draw(st.sampled_from(tree.uids)))
    assert not is_in(Tree(uids | {uid}).root, len(uids | {uid}), found)
    assert not is_in(tree.root, len(tree.uids), replace(found, uid=found.uid + "x"))


@given(st.sets(UIDS, min_size=1, max_size=24), st.data())
def test_no_two_members_are_passed_off_as_neighbors_around_one_that_is_in(
    uids: set[str], data: st.DataObject
) -> None:
    """A liar may choose any two members with true paths, any numbers for them, and any size."""
    tree = Tree(uids)
    uid = data.draw(st.sampled_from(tree.uids))
    numbers = st.integers(0, len(uids) + 1)

    def chosen() -> Inclusion | None:
        index = data.draw(st.none() | st.integers(0, len(uids) - 1))
        found = None if index is None else tree.inclusion(tree.uids[index])
        return None if found is None else replace(found, index=data.draw(st.just(found.index) | numbers))

    lie = Absence(uid=uid, size=data.draw(st.just(len(uids)) | numbers), before=chosen(), after=chosen())
    assert not is_absent(tree.root, lie)
