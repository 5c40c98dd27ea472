"""Every reason is given for its cause, whatever else is the matter, and goes away with it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.reasons import CODES, RULES, code_of, rule_of
from pipeline.revisions import CONTESTED, REVISION_SEEN, REVOKED, SUPERSEDED
from pipeline.rights import Decision

from .worlds import WAYS, World, cases, worlds

pytestmark = pytest.mark.long

OUTCOMES = {"unclear": "quarantined", "kept": "kept"}


def codes(decision: Decision) -> set[str]:
    return set(map(code_of, decision.reasons))


DELIVERED = {SUPERSEDED, REVISION_SEEN, CONTESTED, REVOKED}
"""Reasons that lie in other records of the asset: tests/pipeline/test_deliveries_revisions.py."""


def test_there_is_a_way_to_every_reason() -> None:
    assert set(WAYS) | DELIVERED == CODES == set(RULES)


@pytest.mark.parametrize("code", sorted(WAYS))
@settings(max_examples=min(settings.default.max_examples, 25))  # of each of 23 reasons
@given(data=st.data())
def test_a_cause_gives_its_reason_through_whatever_else_is_wrong_and_its_repair_takes_it_away(
    code: str, data: st.DataObject
) -> None:
    rule, world, repaired = data.draw(cases(code))
    decision, after = world.judged(), repaired.judged()
    assert decision.outcome == OUTCOMES.get(rule, "rejected")
    assert code in codes(decision)
    assert code not in codes(after)
    assert codes(decision) | codes(after) <= CODES


@given(worlds)
def test_no_world_gives_a_reason_that_nobody_knows(world: World) -> None:
    decision = world.judged()
    assert codes(decision) <= CODES
    assert decision.outcome == "kept" or decision.reasons


def test_every_reason_has_a_rule_in_one_plain_sentence() -> None:
    for code in CODES:
        rule = rule_of(f"{code}:which: one")
        assert rule == rule_of(code)
        assert rule
        assert rule.isprintable()
        assert rule[0].islower()
        assert not rule.endswith(".")
    assert len(set(RULES.values())) == len(RULES)
    assert rule_of("near_duplicate: acme:1") is None
