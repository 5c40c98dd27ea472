"""What a file says of its own use: the whole mapping, written out once more, and no value grants any."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, get_args

import pytest

from pipeline import contract
from pipeline.contract import Asset, License, Use
from pipeline.embedded import MINING, NOTHING, Extracted, from_json, signals, to_json
from pipeline.extract import extract
from pipeline.revoked import Revoked
from pipeline.rights import Decision, Purpose, decide

from .metadata import PLAIN, jpeg_xmp, xmp

USES: tuple[Use, ...] = (
    *("ml_training", "generation", "retrieval_index", "retrieval_display"),
    *("evaluation", "derived_captions", "redistribution", "commercial"),
)
ALL = dict.fromkeys(USES, "allow")
VOCABULARY = "http://ns.useplus.org/ldf/vocab/"


def judged(
    extracted: Extracted,
    *,
    record: dict[str, Any] | None = None,
    grants: dict[str, str] = ALL,
    **purpose: Any,
) -> Decision:
    """Of an asset whose contract grants everything."""
    item = Asset.model_validate(contract.template()["asset"] | (record or {}))
    license_ = License.model_validate({**contract.template()["license"], "uses": grants})
    return decide(
        item,
        {license_.license_id: license_},
        purpose=Purpose(**purpose),
        as_of=datetime(2026, 7, 1, tzinfo=UTC),
        revoked=Revoked(),
        extracted=extracted,
    )


def test_the_tables_below_are_of_every_use() -> None:
    assert set(USES) == set(get_args(Use))


SPELLED = {
    "attribute": lambda name, value: xmp("").replace(
        b'rdf:about=""', f'{name}="{VOCABULARY}{value}"'.encode()
    ),
    "element": lambda name, value: xmp(f"<{name}>{VOCABULARY}{value}</{name}>"),
    "resource": lambda name, value: xmp(f'<{name} rdf:resource="{VOCABULARY}{value}"/>'),
    "bare": lambda name, value: xmp(f"<{name}>{value}</{name}>"),
}
# For each use, in the order of USES: . nothing, D denied, ? a person reads first.
DATA_MINING = {
    "DMI-UNSPECIFIED": "........",
    "DMI-ALLOWED": "........",
    "DMI-PROHIBITED-AIMLTRAINING": "DDD.....",
    "DMI-PROHIBITED-GENAIMLTRAINING": ".D......",
    "DMI-PROHIBITED-EXCEPTSEARCHENGINEINDEXING": "DDD.DD..",
    "DMI-PROHIBITED": "DDD.DD..",
    "DMI-PROHIBITED-SEECONSTRAINT": "????????",
    "DMI-PROHIBITED-SEEEMBEDDEDRIGHTSEXPR": "????????",
    "DMI-PROHIBITED-SEELINKEDRIGHTSEXPR": "????????",
    "DMI-SOMETHING-NEW": "????????",
    "DMI-prohibited": "????????",
}


@pytest.mark.parametrize("spelled", SPELLED)
@pytest.mark.parametrize("value", DATA_MINING)
def test_each_value_of_data_mining_forbids_its_uses_however_it_is_written(value: str, spelled: str) -> None:
    packet = SPELLED[spelled]("plus:DataMining", value)
    for found in (extract(jpeg_xmp(packet)), extract(PLAIN["PNG"], [packet])):
        for use, sign in zip(USES, DATA_MINING[value], strict=True):
            reasons = {
                ".": (),
                "D": (f"embedded_prohibition:{use}",),
                "?": ("embedded_constraint:data_mining",),
            }
            decision = judged(found.extracted, uses=[use])
            assert (decision.reasons, decision.outcome == "kept") == (reasons[sign], sign == "."), use


TRAINING_MINING = {
    ("data_mining", "notAllowed"): "DDD.DD..",
    ("data_mining", "constrained"): "???.??..",
    ("data_mining", "allowed"): "........",
    ("ai_training", "notAllowed"): "D.......",
    ("ai_training", "constrained"): "?.......",
    ("ai_training", "allowed"): "........",
    ("ai_generative_training", "notAllowed"): ".D......",
    ("ai_generative_training", "constrained"): ".?......",
    ("ai_generative_training", "allowed"): "........",
    ("ai_inference", "notAllowed"): "..D.....",
    ("ai_inference", "constrained"): "..?.....",
    ("ai_inference", "allowed"): "........",
    ("ai_training", "gibberish"): "?.......",
    ("nobody_knows", "notAllowed"): "DDDDDDDD",
    ("nobody_knows", "constrained"): "????????",
    ("nobody_knows", "allowed"): "........",
    ("assertion", "unread"): "????????",
}


@pytest.mark.parametrize("prefix", ["cawg.", "c2pa.", ""])
@pytest.mark.parametrize(("entry", "use"), TRAINING_MINING)
def test_each_entry_of_an_assertion_forbids_its_uses(prefix: str, entry: str, use: str) -> None:
    said = Extracted(training_mining=((prefix + entry, use),))
    for needed, sign in zip(USES, TRAINING_MINING[entry, use], strict=True):
        reasons = {
            ".": (),
            "D": (f"embedded_prohibition:{needed}",),
            "?": ("embedded_constraint:training_mining",),
        }
        assert judged(said, uses=[needed]).reasons == reasons[sign], needed


RELEASED = {"model": "unlimited", "property": "unlimited"}
SHOWN = {"has_people": "yes", "has_property": "yes", "releases": RELEASED}
RELEASES = {
    ("plus:ModelReleaseStatus", "MR-UMR"): (),
    ("plus:ModelReleaseStatus", "MR-NAP"): (),
    ("plus:ModelReleaseStatus", "MR-LMR"): ("embedded_release:model",),
    ("plus:ModelReleaseStatus", "MR-NON"): ("embedded_release:model",),
    ("plus:ModelReleaseStatus", "MR-NEW"): ("embedded_release:model",),
    ("plus:ModelReleaseStatus", "PR-UPR"): ("embedded_release:model",),
    ("plus:PropertyReleaseStatus", "PR-UPR"): (),
    ("plus:PropertyReleaseStatus", "PR-NAP"): (),
    ("plus:PropertyReleaseStatus", "PR-LPR"): ("embedded_release:property",),
    ("plus:PropertyReleaseStatus", "PR-NON"): ("embedded_release:property",),
    ("plus:PropertyReleaseStatus", "PR-NEW"): ("embedded_release:property",),
    ("plus:PropertyReleaseStatus", "MR-UMR"): ("embedded_release:property",),
}


@pytest.mark.parametrize("spelled", SPELLED)
@pytest.mark.parametrize(("name", "value"), RELEASES)
def test_a_record_that_claims_more_than_the_file_waits_for_a_person(
    name: str, value: str, spelled: str
) -> None:
    said = extract(jpeg_xmp(SPELLED[spelled](name, value))).extracted
    decision = judged(said, record=SHOWN)
    assert decision.reasons == RELEASES[name, value]
    assert decision.outcome == ("quarantined" if decision.reasons else "kept")
    assert judged(said, record=SHOWN, uses=["ml_training"]).outcome == "kept", "nothing is generated"
    nobody = {"has_people": "no", "has_property": "no", "releases": RELEASED}
    claiming_nothing = {"has_people": "no", "releases": {"model": "none", "property": "none"}}
    limited = RELEASES[name, value] if value in ("MR-LMR", "PR-LPR") else ()
    assert judged(said, record=nobody).reasons == limited, "only a limited release is somebody's"
    assert judged(said, record=claiming_nothing).reasons == limited, "the record claims no release"


@pytest.mark.parametrize("release", ["limited", "none", "not_applicable", "unknown"])
def test_a_release_that_only_the_file_states_admits_nobody(release: str) -> None:
    said = Extracted(model_release=("MR-UMR",), property_release=("PR-UPR",))
    record = SHOWN | {"releases": {"model": release, "property": release}}
    assert judged(said, record=record).reasons == ("release:model", "release:property")


MINORS = {
    **dict.fromkeys(("AG-U14", "AG-A15", "AG-A16", "AG-A17"), ("minors",)),
    **dict.fromkeys(("AG-A18", "AG-A19", "AG-A20", "AG-A21", "AG-A22", "AG-A23", "AG-A24", "AG-A25"), ()),
    "AG-UNK": (),
    "AG-NEW": ("embedded_constraint:minor_age",),
    "17": ("embedded_constraint:minor_age",),
}


@pytest.mark.parametrize("spelled", SPELLED)
@pytest.mark.parametrize("value", MINORS)
def test_a_minor_that_only_the_file_states_is_refused(value: str, spelled: str) -> None:
    said = extract(jpeg_xmp(SPELLED[spelled]("plus:MinorModelAgeDisclosure", value))).extracted
    decision = judged(said)
    assert decision.reasons == MINORS[value]
    assert (decision.outcome == "rejected") == (decision.reasons == ("minors",))
    adult = judged(said, record={"has_minors": "no"})
    assert adult.reasons == MINORS[value], "the most restrictive counts"
    assert "minors" not in judged(said, minors="allow").reasons


@pytest.mark.parametrize("value", ["AG-UNK", "AG-A25"])
def test_an_age_in_the_file_is_no_answer_where_the_record_has_none(value: str) -> None:
    said = Extracted(minor_age=(value,))
    people = {"has_people": "yes", "releases": RELEASED}
    assert judged(said, record=people).outcome == "kept"
    assert judged(said, record=people, minors="deny_unknown").reasons == ("minors",)
    assert judged(said, record=people | {"has_minors": "no"}, minors="deny_unknown").outcome == "kept"


CV = "http://cv.iptc.org/newscodes/digitalsourcetype/"
SOURCES = {
    f"{CV}trainedAlgorithmicMedia": True,
    f"{CV}compositeWithTrainedAlgorithmicMedia": True,
    "https://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia": True,
    "trainedAlgorithmicMedia": True,
    f"{CV}algorithmicMedia": False,
    f"{CV}digitalCapture": False,
    f"{CV}compositeSynthetic": False,
    f"{CV}humanEdits": False,
}


@pytest.mark.parametrize(("source", "generated"), SOURCES.items())
def test_a_file_that_a_model_made_contradicts_a_record_that_says_no(source: str, *, generated: bool) -> None:
    said = extract(jpeg_xmp(xmp(f'<Iptc4xmpExt:DigitalSourceType rdf:resource="{source}"/>'))).extracted
    assert said.digital_source == (source,)
    conflict = ("embedded_conflict:ai_generated",) if generated else ()
    assert judged(said, record={"ai_generated": "no"}).reasons == conflict
    assert judged(said, record={"ai_generated": "no"}, uses=["commercial"]).reasons == conflict
    for told in ("yes", "partial", "unknown"):
        assert judged(said, record={"ai_generated": told}).outcome == "kept"


EVERYTHING_ALLOWED = Extracted(
    data_mining=("DMI-ALLOWED",),
    training_mining=(("cawg.ai_training", "allowed"), ("cawg.ai_generative_training", "allowed")),
    model_release=("MR-UMR",),
    property_release=("PR-UPR",),
    minor_age=("AG-A25",),
    digital_source=(f"{CV}digitalCapture",),
)


@pytest.mark.parametrize("use", USES)
def test_no_permission_in_a_file_grants_what_the_contract_does_not(use: Use) -> None:
    assert signals(EVERYTHING_ALLOWED) == signals(NOTHING)
    decision = judged(EVERYTHING_ALLOWED, grants={**ALL, use: "deny"}, uses=[use])
    assert decision.reasons == (f"use_not_granted:{use}",)


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


def test_whoever_looks_is_told_of_everything_to_read() -> None:
    said = Extracted(
        data_mining=("DMI-PROHIBITED-SEECONSTRAINT",),
        training_mining=(("cawg.ai_training", "constrained"),),
        other_constraints="Ask",
        special_instructions="Not in Lent",
        unread=("raw_profile", "unreadable_iptc"),
    )
    sources = ("data_mining", "other_constraints", "special_instructions", "raw_profile", "unreadable_iptc")
    told = {reason.partition(":")[2] for reason in judged(said).reasons}
    assert told == {*sources, "training_mining"}
    assert judged(said, uses=["commercial"]).reasons == tuple(f"embedded_constraint:{s}" for s in sources)


def test_of_several_values_the_most_restrictive_wins() -> None:
    values = ("DMI-ALLOWED", "DMI-PROHIBITED-GENAIMLTRAINING", "DMI-UNSPECIFIED")
    said = Extracted(
        data_mining=values,
        model_release=("MR-UMR", "MR-LMR"),
        minor_age=("AG-A25", "AG-A17"),
        digital_source=(f"{CV}digitalCapture", f"{CV}trainedAlgorithmicMedia"),
    )
    found = signals(said)
    assert (found.denied, found.unreleased) == ({"generation"}, {"model"})
    assert (found.has_minors, found.ai_generated) == (True, True)


def test_what_was_found_is_read_back_as_it_was() -> None:
    said = Extracted(
        data_mining=("a", "b"),
        training_mining=(("c", "d"),),
        model_release=("e",),
        property_release=("f",),
        minor_age=("g",),
        digital_source=("h",),
        other_constraints="i",
        special_instructions="j",
        unread=("k",),
    )
    assert from_json(to_json(said)) == said
    assert to_json(NOTHING) is None
    assert from_json(None) == NOTHING


def test_what_was_found_before_there_was_more_to_find_is_still_read() -> None:
    before = '{"data_mining":["a"],"training_mining":[],"special_instructions":"","unread":[]}'
    assert from_json(before) == Extracted(data_mining=("a",))


def test_blank_instructions_say_nothing() -> None:
    assert judged(Extracted(special_instructions=" \n", other_constraints="\t")).outcome == "kept"


def test_a_file_that_forbids_only_retrieval_is_kept_and_is_no_neighbor() -> None:
    for use in ("notAllowed", "constrained"):
        decision = judged(Extracted(training_mining=(("ai_inference", use),)))
        assert (decision.outcome, decision.may_be_neighbor) == ("kept", False)


def test_a_contract_that_prevails_is_named_in_the_reasons() -> None:
    forbidding = Extracted(data_mining=("DMI-PROHIBITED",))
    assert signals(forbidding).denied == MINING
    decision = judged(forbidding, contract_prevails=["ACME-2026-001"])
    assert (decision.outcome, decision.reasons) == ("kept", ("contract_prevails:ACME-2026-001",))
    assert decision.may_be_neighbor
    assert judged(forbidding, contract_prevails=["X"]).outcome == "quarantined"
    unclear = Extracted(data_mining=("DMI-PROHIBITED-SEECONSTRAINT",))
    decision = judged(unclear, contract_prevails=["ACME-2026-001"])
    assert decision.outcome == "quarantined"
