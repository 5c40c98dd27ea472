"""Rights: a test for each reason, the instants at which they begin, and laws that hold for any licences."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import contract
from pipeline.contract import Asset, License, Revocation, Use
from pipeline.embedded import NOTHING, Extracted
from pipeline.revoked import Revoked
from pipeline.rights import Decision, Purpose, decide

NOW = datetime(2026, 7, 1, tzinfo=UTC)
TICK = timedelta(microseconds=1)
USES: tuple[Use, ...] = get_args(Use)
ALL = dict.fromkeys(USES, "allow")


def asset(**changes: Any) -> Asset:
    return Asset.model_validate(contract.template()["asset"] | {"license_ids": ["l"]} | changes)


def license_(name: str = "l", **changes: Any) -> License:
    base = {**contract.template()["license"], "license_id": name, "uses": ALL}
    return License.model_validate(base | changes)


def revocation(**changes: Any) -> Revocation:
    return Revocation.model_validate(contract.template()["revocation"] | {"revocation_id": "r"} | changes)


def judged(
    item: Asset,
    *records: License,
    extracted: Extracted = NOTHING,
    revocations: Sequence[Revocation] = (),
    **purpose: Any,
) -> Decision:
    return decide(
        item,
        {record.license_id: record for record in records},
        purpose=Purpose(**purpose),
        as_of=NOW,
        revoked=Revoked.of(revocations, NOW),
        extracted=extracted,
    )


def spelled(moment: datetime) -> str:
    return moment.replace(tzinfo=None).isoformat() + "Z"


def test_an_asset_with_a_licence_that_grants_everything_is_kept() -> None:
    decision = judged(asset(), license_())
    assert decision == Decision(
        outcome="kept",
        reasons=(),
        license_ids=("l",),
        may_be_neighbor=True,
        may_be_shown=True,
        may_derive=True,
        attribution="Photo: J. Doe, Acme Images",
    )


ONLY_NL = {"mode": "only", "countries": ["NL"]}
NOT_US = {"mode": "except", "countries": ["US"]}
SOON = spelled(NOW + timedelta(days=30))


@pytest.mark.parametrize(
    ("changes", "purpose", "reasons"),
    [
        ({"uses": {**ALL, "ml_training": "deny"}}, {}, ("use_not_granted:ml_training",)),
        ({"uses": {**ALL, "generation": "deny"}}, {}, ("use_not_granted:generation",)),
        (
            {"uses": {"ml_training": "allow", "generation": "allow"}},
            {"commercial": True},
            ("use_not_granted:commercial",),
        ),
        ({"uses": {"ml_training": "allow", "generation": "allow"}}, {}, ()),
        (
            {"uses": {"ml_training": "allow", "generation": "allow"}},
            {"uses": ["evaluation"]},
            ("use_not_granted:evaluation",),
        ),
        ({"valid_from": spelled(NOW)}, {}, ()),
        ({"valid_from": spelled(NOW + TICK)}, {}, ("not_yet_valid",)),
        ({"valid_until": spelled(NOW + TICK)}, {}, ()),
        ({"valid_until": spelled(NOW)}, {}, ("expired",)),
        ({"valid_until": None}, {}, ()),
        ({"valid_until": SOON, "after_term": "unknown"}, {}, ("expires_soon",)),
        ({"valid_until": spelled(NOW + timedelta(days=30) + TICK), "after_term": "unknown"}, {}, ()),
        ({"valid_until": SOON, "after_term": "perpetual"}, {}, ()),
        ({"revoked_at": spelled(NOW)}, {}, ("license_revoked",)),
        ({"revoked_at": spelled(NOW + TICK)}, {}, ()),
        ({"territory": ONLY_NL}, {}, ("territory",)),
        ({"territory": ONLY_NL}, {"territory": ["NL"]}, ()),
        ({"territory": ONLY_NL}, {"territory": ["NL", "DE"]}, ("territory",)),
        ({"territory": NOT_US}, {}, ("territory",)),
        ({"territory": NOT_US}, {"territory": ["NL", "DE"]}, ()),
        ({"territory": NOT_US}, {"territory": ["NL", "US"]}, ("territory",)),
        ({"models": ["pardalis"]}, {}, ()),
        ({"models": ["other"]}, {}, ("model",)),
        ({"models": []}, {}, ("model",)),
        ({"models": ["other"]}, {"model": "other"}, ()),
        ({"editorial_only": True}, {}, ("editorial",)),
        ({"editorial_only": True}, {"uses": ["ml_training"]}, ()),
        ({"covers": ["image"]}, {}, ("no_license:text",)),
        ({"covers": ["text"]}, {}, ("no_license:image",)),
        ({"valid_until": spelled(NOW), "models": []}, {}, ("expired", "model")),
    ],
)
def test_a_licence_admits_or_says_all_that_it_lacks(
    changes: dict[str, Any], purpose: dict[str, Any], reasons: tuple[str, ...]
) -> None:
    decision = judged(asset(), license_(**changes), **purpose)
    assert decision.reasons == reasons
    assert decision.outcome == ("rejected" if reasons else "kept")


def test_without_a_record_there_is_no_licence() -> None:
    assert judged(asset()).reasons == ("license_missing:l",)
    assert judged(asset(), license_("another")).reasons == ("license_missing:l",)
    assert judged(asset(license_ids=["k", "l"])).reasons == ("license_missing:k", "license_missing:l")


@pytest.mark.parametrize(
    ("changes", "purpose", "reasons"),
    [
        ({"status": "superseded"}, {}, ("superseded",)),
        ({"status": "revoked", "revoked_at": spelled(NOW + TICK)}, {}, ("revoked",)),
        ({"is_adult": True}, {}, ("adult",)),
        ({"is_adult": True}, {"adult": "allow"}, ()),
        ({"has_minors": "yes"}, {}, ("minors",)),
        ({"has_minors": "yes"}, {"minors": "allow"}, ()),
        ({"has_minors": "unknown"}, {"minors": "deny_unknown"}, ()),
        ({"is_editorial": True}, {}, ("editorial",)),
        ({"is_editorial": True}, {"uses": ["ml_training"]}, ()),
        ({"has_people": "yes"}, {}, ("release:model",)),
        ({"has_people": "unknown"}, {}, ("release:model",)),
        ({"has_people": "yes"}, {"uses": ["ml_training"]}, ()),
        ({"has_property": "yes"}, {}, ("release:property",)),
        ({"has_property": "unknown"}, {}, ()),
    ],
)
def test_an_asset_is_judged_by_what_it_shows(
    changes: dict[str, Any], purpose: dict[str, Any], reasons: tuple[str, ...]
) -> None:
    assert judged(asset(**changes), license_(), **purpose).reasons == reasons


@pytest.mark.parametrize("release", ["unlimited", "limited", "none", "not_applicable", "unknown"])
def test_only_an_unlimited_release_lets_people_be_generated(release: str) -> None:
    releases = {"model": release, "property": "not_applicable"}
    decision = judged(asset(has_people="yes", releases=releases), license_())
    assert (decision.outcome == "kept") == (release == "unlimited")


def test_people_whose_age_nobody_stated_are_refused_where_that_is_asked() -> None:
    item = asset(has_people="yes", releases={"model": "unlimited", "property": "none"})
    assert judged(item, license_()).outcome == "kept"
    assert judged(item, license_(), minors="deny_unknown").reasons == ("minors",)


def test_an_editorial_picture_needs_a_licence_for_editorial_content() -> None:
    item = asset(is_editorial=True)
    assert judged(item, license_(tier="editorial")).outcome == "kept"
    assert judged(item, license_(tier="editorial", editorial_only=True)).reasons == ("editorial",)
    item = asset(is_editorial=True, license_ids=["art", "words"])
    art, words = license_("art", tier="editorial", covers=["image"]), license_("words", covers=["text"])
    assert judged(item, art, words).outcome == "kept"


def test_art_and_words_under_two_licences_need_both() -> None:
    item = asset(license_ids=["art", "words"])
    art, words = license_("art", covers=["image"]), license_("words", covers=["text"])
    assert judged(item, art, words).license_ids == ("art", "words")
    assert judged(item, art).reasons == ("license_missing:words",)
    denied = license_("words", covers=["text"], uses={**ALL, "generation": "deny"})
    assert judged(item, art, denied).reasons == ("use_not_granted:generation",)
    expired = license_("art", covers=["image"], valid_until=spelled(NOW))
    assert judged(item, expired, denied).reasons == ("expired", "use_not_granted:generation")


def test_the_reason_is_the_nearest_miss() -> None:
    far = license_("far", valid_until=spelled(NOW), models=[])
    near = license_("near", territory=ONLY_NL)
    assert judged(asset(license_ids=["far", "near"]), far, near).reasons == ("territory",)


def test_a_target_need_not_be_a_neighbor() -> None:
    decision = judged(asset(), license_(uses={**ALL, "retrieval_index": "deny"}))
    assert (decision.outcome, decision.may_be_neighbor, decision.may_be_shown) == ("kept", False, True)


def test_the_licence_that_lets_an_asset_be_a_neighbor_also_lets_it_be_trained_on() -> None:
    trained = license_("t", uses={"ml_training": "allow", "generation": "allow"})
    indexed = license_("i", uses={"ml_training": "deny", "generation": "allow", "retrieval_index": "allow"})
    both = license_("b", attribution_template="B")
    decision = judged(asset(license_ids=["t", "i"]), trained, indexed)
    assert (decision.license_ids, decision.may_be_neighbor) == (("t",), False)
    decision = judged(asset(license_ids=["t", "i", "b"]), trained, indexed, both)
    assert (decision.license_ids, decision.may_be_neighbor) == (("b",), True)


def test_showing_may_rest_on_another_licence_which_is_credited_too() -> None:
    trained = license_("t", uses={"ml_training": "allow", "generation": "allow"}, attribution_template="T")
    uses = {"ml_training": "deny", "generation": "deny", "retrieval_display": "allow"}
    shown = license_("s", uses=uses, attribution_template="S")
    decision = judged(asset(license_ids=["t", "s"]), trained, shown)
    assert (decision.license_ids, decision.attribution) == (("t", "s"), "T; S")
    assert decision.may_be_shown


def test_credit_is_filled_from_the_asset_and_a_template_is_no_program() -> None:
    template = "{title} {contributor.__class__} {0} {unknown} %s {contributor} by {rights_holder}"
    decision = judged(asset(title="{contributor}"), license_(attribution_template=template))
    assert decision.attribution == (
        "{contributor} {contributor.__class__} {0} {unknown} %s J. Doe by Acme Images"
    )
    assert judged(asset(), license_(attribution_required=False)).attribution == ""


def test_the_first_rule_that_objects_decides() -> None:
    item = asset(is_adult=True, has_people="yes")
    forbidding = Extracted(data_mining=("DMI-PROHIBITED",))
    gone = [revocation()]
    assert judged(item, revocations=gone, extracted=forbidding).reasons == ("revoked:r",)
    assert judged(item, extracted=forbidding).reasons == ("license_missing:l",)
    assert judged(item, license_(), extracted=forbidding).reasons == ("release:model",)
    item = asset(is_adult=True)
    assert judged(item, license_(), extracted=forbidding).reasons == ("adult",)


grants = st.fixed_dictionaries({use: st.sampled_from(["allow", "deny"]) for use in USES})
parts = st.sampled_from([["image"], ["text"], ["image", "text"]])
times = st.sampled_from([NOW - TICK, NOW, NOW + TICK]).map(spelled)
licences = st.builds(
    lambda name, uses, covers, start, stop: license_(
        f"l{name}", uses=uses, covers=covers, valid_from=start, valid_until=stop
    ),
    st.integers(0, 5),
    grants,
    parts,
    times,
    times | st.none(),
)
registers = st.lists(licences, max_size=5, unique_by=lambda record: record.license_id)


def admits(record: License, part: str, uses: set[str]) -> bool:
    """The rule once more, in its plainest form."""
    begun = record.valid_from <= NOW
    running = record.valid_until is None or record.valid_until > NOW
    granted = all(getattr(record.uses, use) == "allow" for use in uses)
    return part in record.covers and begun and running and granted


@given(registers)
def test_an_asset_is_kept_exactly_when_each_part_has_one_licence_that_admits_all(
    register: list[License],
) -> None:
    item = asset(license_ids=[record.license_id for record in register] or ["l"])
    decision = judged(item, *register)
    needed = {"ml_training", "generation"}

    def every_part(uses: set[str]) -> bool:
        return all(any(admits(record, part, uses) for record in register) for part in ("image", "text"))

    assert (decision.outcome == "kept") == every_part(needed)
    assert decision.may_be_neighbor == (every_part(needed) and every_part({*needed, "retrieval_index"}))
    assert decision.may_be_shown == (every_part(needed) and every_part({"retrieval_display"}))
    assert bool(decision.reasons) == (decision.outcome != "kept")


@given(registers, licences)
def test_one_more_licence_never_takes_a_right_away(register: list[License], more: License) -> None:
    register = [record for record in register if record.license_id != more.license_id]
    before = judged(asset(license_ids=[record.license_id for record in register] or ["l"]), *register)
    register = [*register, more]
    after = judged(asset(license_ids=[record.license_id for record in register]), *register)
    for right in ("may_be_neighbor", "may_be_shown", "may_derive"):
        assert getattr(after, right) >= getattr(before, right)
    assert (after.outcome == "kept") >= (before.outcome == "kept")


LACKS: dict[str, dict[str, Any]] = {
    "use": {"uses": {**ALL, "generation": "deny"}},
    "other_use": {"uses": {**ALL, "ml_training": "deny"}},
    "territory": {"territory": ONLY_NL},
    "model": {"models": ["other"]},
    "begun": {"valid_from": spelled(NOW + TICK)},
    "ended": {"valid_until": spelled(NOW)},
    "revoked": {"revoked_at": spelled(NOW)},
    "editorial": {"editorial_only": True},
    "words": {"covers": ["image"]},
    "picture": {"covers": ["text"]},
}
"""What keeps a licence from admitting the whole asset."""
PARTIAL = {"words", "picture"}


@pytest.mark.parametrize(("one", "another"), list(itertools.permutations(LACKS, 2)))
def test_what_one_licence_lacks_another_that_lacks_something_else_does_not_give(
    one: str, another: str
) -> None:
    first, second = license_("first", **LACKS[one]), license_("second", **LACKS[another])
    decision = judged(asset(license_ids=["first", "second"]), first, second)
    if {
        one,
        another,
    } == PARTIAL:  # the picture under one and the words under the other is what `covers` is for
        assert decision.outcome == "kept"
    else:
        assert decision == Decision(outcome="rejected", reasons=decision.reasons)


whole = sorted(LACKS.keys() - PARTIAL)


@given(st.lists(st.sets(st.sampled_from(whole), min_size=1), min_size=1, max_size=6))
def test_no_number_of_licences_that_each_lack_something_makes_a_grant(lacks: list[set[str]]) -> None:
    register = []
    for number, lacking in enumerate(lacks):
        changes = {name: value for lack in sorted(lacking) for name, value in LACKS[lack].items()}
        register.append(license_(f"l{number}", **changes))
    item = asset(license_ids=[record.license_id for record in register])
    assert judged(item, *register).outcome == "rejected"
    complete = license_("complete")
    item = asset(license_ids=[*item.license_ids, "complete"])
    assert judged(item, *register, complete).license_ids[0] == "complete"


@given(st.lists(st.sampled_from(whole), min_size=1, max_size=3, unique=True))
def test_the_reasons_are_all_of_one_licence(lacks: list[str]) -> None:
    register = [license_(f"l{number}", **LACKS[lack]) for number, lack in enumerate(lacks)]
    together = judged(asset(license_ids=[record.license_id for record in register]), *register)
    assert together.reasons == judged(asset(license_ids=["l0"]), register[0]).reasons


def test_uses_granted_by_two_licences_are_not_granted_together() -> None:
    halves = [license_(use, uses={**dict.fromkeys(USES, "deny"), use: "allow"}) for use in USES]
    item = asset(license_ids=[record.license_id for record in halves])
    assert judged(item, *halves).outcome == "rejected"


def test_restrictions_in_words_wait_for_a_person() -> None:
    item = asset(usage_restrictions=["Not for use in Germany", "Contact your local office"])
    decision = judged(item, license_())
    assert (decision.outcome, decision.reasons) == ("quarantined", ("usage_restrictions",))
    assert judged(item, license_(), contract_prevails=["ACME-2026-001"]).outcome == "quarantined"
    assert judged(asset(usage_restrictions=[]), license_()).outcome == "kept"
