"""What a file says of its own use: each value denies its uses, and no value grants any."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, get_args

import pytest

from pipeline import contract
from pipeline.contract import Asset, License, Use
from pipeline.embedded import MINING, NOTHING, TRAINING, Extracted, from_json, signals, to_json
from pipeline.revoked import Revoked
from pipeline.rights import Decision, Purpose, decide

ALL = dict.fromkeys(get_args(Use), "allow")


def judged(extracted: Extracted, **purpose: Any) -> Decision:
    """Of an asset whose contract grants everything."""
    item = Asset.model_validate(contract.template()["asset"])
    record = License.model_validate({**contract.template()["license"], "uses": ALL})
    return decide(
        item,
        {record.license_id: record},
        purpose=Purpose(**purpose),
        as_of=datetime(2026, 7, 1, tzinfo=UTC),
        revoked=Revoked(),
        extracted=extracted,
    )


PLUS = "http://ns.useplus.org/ldf/vocab/DMI-"


@pytest.mark.parametrize("form", [PLUS, "https://ns.useplus.org/ldf/vocab/DMI-", "DMI-"])
@pytest.mark.parametrize(
    ("value", "denied", "unclear"),
    [
        ("UNSPECIFIED", frozenset(), False),
        ("ALLOWED", frozenset(), False),
        ("PROHIBITED", MINING, False),
        ("PROHIBITED-EXCEPTSEARCHENGINEINDEXING", MINING, False),
        ("PROHIBITED-AIMLTRAINING", TRAINING, False),
        ("PROHIBITED-GENAIMLTRAINING", {"generation"}, False),
        ("PROHIBITED-SEECONSTRAINT", frozenset(), True),
        ("PROHIBITED-SEEEMBEDDEDRIGHTSEXPR", frozenset(), True),
        ("PROHIBITED-SEELINKEDRIGHTSEXPR", frozenset(), True),
        ("SOMETHING-NEW", frozenset(), True),
    ],
)
def test_each_plus_value_denies_its_uses(form: str, value: str, denied: set[Use], *, unclear: bool) -> None:
    found = signals(Extracted(data_mining=(form + value,)))
    assert found.denied == denied
    assert bool(found.unclear) == unclear


@pytest.mark.parametrize("prefix", ["cawg.", "c2pa.", ""])
@pytest.mark.parametrize(
    ("entry", "denied"),
    [
        ("data_mining", MINING),
        ("ai_training", {"ml_training"}),
        ("ai_generative_training", {"generation"}),
        ("ai_inference", {"retrieval_index"}),
    ],
)
def test_each_training_assertion_denies_its_uses(prefix: str, entry: str, denied: set[Use]) -> None:
    def told(use: str) -> Extracted:
        return Extracted(training_mining=((prefix + entry, use),))

    assert signals(told("notAllowed")).denied == denied
    assert signals(told("constrained")).unclear.keys() == denied
    assert signals(told("gibberish")).unclear.keys() == denied
    assert signals(told("allowed")) == signals(NOTHING)


def test_a_file_that_forbids_what_the_contract_grants_waits_for_a_person() -> None:
    decision = judged(Extracted(data_mining=("DMI-PROHIBITED-GENAIMLTRAINING",)))
    assert decision.outcome == "quarantined"
    assert decision.reasons == ("embedded_prohibition:generation",)
    conditions = Extracted(special_instructions="Not in Lent", other_constraints=" ")
    assert judged(conditions).reasons == ("embedded_constraint:special_instructions",)


def test_what_could_not_be_read_asks_for_a_person_even_where_the_contract_prevails() -> None:
    damaged = Extracted(unread=("unreadable_xmp",))
    assert signals(damaged).unclear.keys() == set(get_args(Use))
    decision = judged(damaged, contract_prevails=["ACME-2026-001"])
    assert (decision.outcome, decision.reasons) == ("quarantined", ("embedded_constraint:unreadable_xmp",))


def test_of_several_values_the_most_restrictive_wins() -> None:
    values = ("DMI-ALLOWED", "DMI-PROHIBITED-GENAIMLTRAINING", "DMI-UNSPECIFIED")
    assert signals(Extracted(data_mining=values)).denied == {"generation"}


def test_what_was_found_is_read_back_as_it_was() -> None:
    said = Extracted(data_mining=("a", "b"), training_mining=(("c", "d"),), unread=("e",))
    assert from_json(to_json(said)) == said
    assert to_json(NOTHING) is None
    assert from_json(None) == NOTHING


def test_blank_instructions_say_nothing() -> None:
    assert judged(Extracted(special_instructions=" \n", other_constraints="\t")).outcome == "kept"


def test_a_file_that_forbids_only_retrieval_is_kept_and_is_no_neighbor() -> None:
    for use in ("notAllowed", "constrained"):
        decision = judged(Extracted(training_mining=(("ai_inference", use),)))
        assert (decision.outcome, decision.may_be_neighbor) == ("kept", False)


def test_a_contract_that_prevails_is_named_in_the_reasons() -> None:
    forbidding = Extracted(data_mining=("DMI-PROHIBITED",))
    decision = judged(forbidding, contract_prevails=["ACME-2026-001"])
    assert (decision.outcome, decision.reasons) == ("kept", ("contract_prevails:ACME-2026-001",))
    assert decision.may_be_neighbor
    assert judged(forbidding, contract_prevails=["X"]).outcome == "quarantined"
    unclear = Extracted(data_mining=("DMI-PROHIBITED-SEECONSTRAINT",))
    decision = judged(unclear, contract_prevails=["ACME-2026-001"])
    assert decision.outcome == "quarantined"
