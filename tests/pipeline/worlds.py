"""Worlds in which a decision is made, drawn at random, and every way to each reason with what undoes it.

A world is good in every rule before the one that is to object, and anything from there on: so the reason has
to show through whatever else is wrong.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, get_args

from hypothesis import strategies as st

from pipeline import contract
from pipeline.contract import Asset, License, Revocation, Use
from pipeline.embedded import MINING, Extracted
from pipeline.grants import EDITORIAL_MATTERS
from pipeline.revoked import Revoked
from pipeline.rights import Decision, Purpose, decide

NOW = datetime(2026, 7, 1, tzinfo=UTC)
USES: tuple[Use, ...] = get_args(Use)
PLACES = ("NL", "DE", "US")
CONTRACT = contract.template()["license"]["contract_id"]
Changes = dict[str, Any]
Draw = Callable[[st.SearchStrategy[Any]], Any]


def at(days: float) -> str:
    return (NOW + timedelta(days=days)).replace(tzinfo=None).isoformat() + "Z"


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """Changes to the contract's examples. The first licence is the one that matters."""

    asset: Changes
    licenses: tuple[Changes, ...]
    purpose: Changes
    revocations: tuple[Changes, ...]
    extracted: Extracted

    def judged(self) -> Decision:
        example = contract.template()
        names = [record["license_id"] for record in self.licenses]
        asset = {**example["asset"], "license_ids": names, **self.asset}
        licenses = [License.model_validate(example["license"] | record) for record in self.licenses]
        revocations = [Revocation.model_validate(example["revocation"] | one) for one in self.revocations]
        return decide(
            Asset.model_validate({name: value for name, value in asset.items() if value is not None}),
            {record.license_id: record for record in licenses if record.license_id != "gone"},
            purpose=Purpose(**self.purpose),
            as_of=NOW,
            revoked=Revoked.of(revocations, NOW),
            extracted=self.extracted,
        )

    @property
    def needed(self) -> list[Use]:
        return sorted(Purpose(**self.purpose).needed)

    def with_asset(self, **changes: Any) -> World:
        return replace(self, asset=self.asset | changes)

    def with_license(self, **changes: Any) -> World:
        first, *others = self.licenses
        return replace(self, licenses=(first | changes, *others))

    def with_purpose(self, **changes: Any) -> World:
        return replace(self, purpose=self.purpose | changes)

    def with_file(self, **changes: Any) -> World:
        return replace(self, extracted=replace(self.extracted, **changes))

    def with_revocation(self, **changes: Any) -> World:
        planted = {"revocation_id": "planted", "effective_at": at(0)} | changes
        return replace(self, revocations=(*self.revocations, planted))

    def without_revocation(self) -> World:
        kept = (one for one in self.revocations if one["revocation_id"] != "planted")
        return replace(self, revocations=tuple(kept))


Repair = Callable[[World], World]
RELEASES = ("unlimited", "limited", "none", "not_applicable", "unknown")


def few(*values: Any) -> st.SearchStrategy[tuple[Any, ...]]:
    """None of them, one or two."""
    found = (itertools.combinations(values, size) for size in range(3))
    return st.sampled_from(list(itertools.chain.from_iterable(found)))


def some(values: Sequence[Any]) -> st.SearchStrategy[list[Any]]:
    """At least one of them."""
    sizes = range(1, len(values) + 1)
    found = (itertools.combinations(values, size) for size in sizes)
    return st.sampled_from(list(itertools.chain.from_iterable(found))).map(list)


# One draw for eight uses: a case makes some fifty draws, and they are what it costs.
grants = st.integers(0, 2 ** len(USES) - 1).map(
    lambda bits: {use: "allow" if bits >> place & 1 else "deny" for place, use in enumerate(USES)}
)
assets = st.fixed_dictionaries(
    {
        "image_type": st.sampled_from(["photo", "illustration", "unknown"]),
        "ai_generated": st.sampled_from(["no", "yes", "partial", "unknown"]),
        "is_editorial": st.booleans(),
        "is_adult": st.booleans(),
        "has_people": st.sampled_from(["yes", "unknown"]),
        "has_minors": st.sampled_from(["yes", "no", "unknown", None]),
        "has_property": st.sampled_from(["yes", "no", "unknown", None]),
        "releases": st.fixed_dictionaries(dict.fromkeys(("model", "property"), st.sampled_from(RELEASES))),
        "usage_restrictions": few("Not for posters", "Ask"),
        "status": st.sampled_from(["active", "superseded"]),
    }
)
territories = st.sampled_from(["worldwide", "only", "except"]).flatmap(
    lambda mode: st.fixed_dictionaries({"mode": st.just(mode), "countries": some(PLACES)})
)
licences = st.fixed_dictionaries(
    {
        "uses": grants,
        "covers": st.sampled_from([["image"], ["text"], ["image", "text"]]),
        "tier": st.sampled_from(["data", "standard", "editorial"]),
        "editorial_only": st.booleans(),
        "territory": territories,
        "models": st.sampled_from([[], ["pardalis"], ["other"]]),
        "valid_from": st.sampled_from([at(-400), at(1)]),
        "valid_until": st.sampled_from([at(-1), at(20), at(400), None]),
        "after_term": st.sampled_from(["perpetual", "delete_data_keep_models", "unknown"]),
    }
)
purposes = st.fixed_dictionaries(
    {
        "uses": some(USES),
        "territory": st.just("worldwide") | some(PLACES),
        "model": st.sampled_from(["pardalis", "other"]),
        "commercial": st.booleans(),
        "adult": st.sampled_from(["deny", "allow"]),
        "minors": st.sampled_from(["deny", "deny_unknown", "allow"]),
        "contract_prevails": st.sampled_from([[], [CONTRACT], ["X"]]),
    }
)
HARMLESS: list[Changes] = [
    {"revocation_id": "later", "effective_at": at(1), "targets": ["1234567"]},
    {"revocation_id": "another", "effective_at": at(-1), "targets": ["7654321"]},
    {"revocation_id": "far", "effective_at": at(-1), "target_type": "content_pdq", "targets": ["f" * 64]},
]


files = st.builds(
    Extracted,
    data_mining=few("DMI-ALLOWED", "DMI-PROHIBITED", "DMI-PROHIBITED-SEECONSTRAINT"),
    training_mining=few(
        *itertools.product(("cawg.ai_training", "c2pa.data_mining"), ("allowed", "notAllowed", "constrained"))
    ),
    model_release=few("MR-UMR", "MR-LMR", "MR-NON"),
    property_release=few("PR-UPR", "PR-LPR", "PR-NAP"),
    minor_age=few("AG-A25", "AG-A15", "AG-UNK"),
    digital_source=few("digitalCapture", "trainedAlgorithmicMedia"),
    other_constraints=st.sampled_from(["", "Ask"]),
    special_instructions=st.sampled_from(["", "Not in Lent"]),
    unread=few("unreadable_xmp", "remote_manifest"),
)
worlds = st.builds(
    World,
    asset=assets,
    licenses=st.lists(licences, min_size=1, max_size=3).map(
        lambda found: tuple(record | {"license_id": f"l{i}"} for i, record in enumerate(found))
    ),
    purpose=purposes,
    revocations=few(*HARMLESS),
    extracted=files,
)


def standing(world: World) -> World:
    return world.with_asset(status="active", revoked_at=None)


def licensed(world: World) -> World:
    """The first licence admits all that is needed, whatever the others do."""
    return world.with_license(
        uses={**world.licenses[0]["uses"], **dict.fromkeys(world.needed, "allow")},
        covers=["image", "text"],
        tier="editorial",
        editorial_only=False,
        territory={"mode": "worldwide"},
        models=[world.purpose["model"]],
        valid_from=at(-400),
        valid_until=None,
    )


def released(world: World) -> World:
    return world.with_asset(releases={"model": "unlimited", "property": "unlimited"})


def fit(world: World) -> World:
    ages = tuple(age for age in world.extracted.minor_age if age != "AG-A15")
    return world.with_asset(is_adult=False, has_minors="no").with_file(minor_age=ages)


def clear(world: World) -> World:
    """Nobody has to look: the file says nothing, and the agency nothing in words."""
    return replace(world, extracted=Extracted()).with_asset(usage_restrictions=[])


MENDS = {"withdrawn": standing, "unlicensed": licensed, "unreleased": released, "unfit": fit}
RULES = (*MENDS, "unclear", "kept")
"""In the order in which they object."""


def mended(world: World, *, before: str) -> World:
    for rule in RULES[: RULES.index(before)]:
        world = MENDS.get(rule, lambda world: world)(world)
    return world


def alone(world: World) -> World:
    """The first licence admits all, and without it no other does, nor comes as near."""
    first, *others = licensed(standing(world)).licenses
    hobbled = (record | {"models": [], "valid_until": at(-1)} for record in others)
    return replace(standing(world), licenses=(first, *hobbled))


def using(world: World, *uses: Use) -> World:
    """The corpus needs at least one of these uses."""
    wanted = world.purpose["uses"]
    return world if set(uses) & set(wanted) else world.with_purpose(uses=[*wanted, uses[0]])


Way = tuple[str, Callable[[Draw, World], tuple[World, Repair]]]
"""The rule that objects; and how to plant a cause in a world, and to take it out again."""
WAYS: dict[str, list[Way]] = {}


def way(code: str, rule: str) -> Callable[[Any], Any]:
    def keep(plant: Any) -> Any:
        WAYS.setdefault(code, []).append((rule, plant))
        return plant

    return keep


@st.composite
def cases(draw: Draw, code: str) -> tuple[str, World, World]:
    """(rule, a world in which it must give the code, the same without that one cause)."""
    rule, plant = draw(st.sampled_from(WAYS[code]))
    world, repair = plant(draw, draw(worlds))
    world = mended(world, before=rule)
    return rule, world, repair(world)


REVOKED: Mapping[str, list[str]] = {
    "asset": ["1234567"],
    "contributor": ["c-77"],
    "content_sha256": [contract.template()["asset"]["file"]["sha256"]],
    "delivery": ["d"],
    "model_release": ["m"],
}


@way("revoked", "withdrawn")
def _revoked(draw: Draw, world: World) -> tuple[World, Repair]:
    kind = draw(st.sampled_from(sorted(REVOKED)))
    releases = {**world.asset["releases"], "model_release_ids": ["m"]}
    world = world.with_asset(delivery_id="d", releases=releases, status="active")
    return world.with_revocation(target_type=kind, targets=REVOKED[kind]), World.without_revocation


@way("revoked", "withdrawn")
def _every_license_revoked(_draw: Draw, world: World) -> tuple[World, Repair]:
    names = [record["license_id"] for record in world.licenses]
    return world.with_revocation(target_type="license", targets=names), World.without_revocation


@way("revoked", "withdrawn")
def _said_to_be_revoked(_draw: Draw, world: World) -> tuple[World, Repair]:
    return world.with_asset(status="revoked", revoked_at=at(1)), standing


@way("superseded", "withdrawn")
def _superseded(_draw: Draw, world: World) -> tuple[World, Repair]:
    return world.with_asset(status="superseded"), standing


@way("restricted", "withdrawn")
def _restricted(draw: Draw, world: World) -> tuple[World, Repair]:
    use = draw(st.sampled_from(world.needed))
    world = world.with_asset(status="active")
    return world.with_revocation(action="restrict", restrict_uses=[use]), World.without_revocation


@way("restricted", "unlicensed")
def _license_restricted(draw: Draw, world: World) -> tuple[World, Repair]:
    use = draw(st.sampled_from(world.needed))
    changes = {"target_type": "license", "targets": ["l0"], "action": "restrict", "restrict_uses": [use]}
    return alone(world).with_revocation(**changes), World.without_revocation


@way("license_missing", "unlicensed")
def _license_missing(_draw: Draw, world: World) -> tuple[World, Repair]:
    missing = replace(world, licenses=(world.licenses[0] | {"license_id": "gone"},))
    return missing, lambda world: world.with_license(license_id="l0")


@way("no_license", "unlicensed")
def _no_license(draw: Draw, world: World) -> tuple[World, Repair]:
    part = draw(st.sampled_from(["image", "text"]))
    narrow = replace(world, licenses=(world.licenses[0] | {"covers": [part]},))
    return narrow, lambda world: world.with_license(covers=["image", "text"])


@way("license_revoked", "unlicensed")
def _license_ended(draw: Draw, world: World) -> tuple[World, Repair]:
    when = at(-draw(st.sampled_from([0, 1, 300])))
    return alone(world).with_license(revoked_at=when), lambda world: world.with_license(revoked_at=at(1))


@way("license_revoked", "unlicensed")
def _one_license_revoked(_draw: Draw, world: World) -> tuple[World, Repair]:
    world = alone(world)
    other = {**world.licenses[0], "license_id": "other", "models": [], "valid_until": at(-1)}
    world = replace(world, licenses=(*world.licenses, other))
    return world.with_revocation(target_type="license", targets=["l0"]), World.without_revocation


@way("not_yet_valid", "unlicensed")
def _not_yet_valid(draw: Draw, world: World) -> tuple[World, Repair]:
    begins = at(draw(st.sampled_from([1e-9, 1, 300])))
    return alone(world).with_license(valid_from=begins), lambda world: world.with_license(valid_from=at(0))


@way("expired", "unlicensed")
def _expired(draw: Draw, world: World) -> tuple[World, Repair]:
    ended = at(-draw(st.sampled_from([0, 1, 300])))
    world = alone(world).with_license(valid_until=ended)
    return world, lambda world: world.with_license(valid_until=draw(st.sampled_from([None, at(31)])))


@way("expires_soon", "unlicensed")
def _expires_soon(draw: Draw, world: World) -> tuple[World, Repair]:
    ends = at(draw(st.sampled_from([1, 15, 30])))
    world = alone(world).with_license(valid_until=ends, after_term="unknown")
    later, known = {"valid_until": at(31)}, {"after_term": draw(st.sampled_from(["perpetual"]))}
    return world, lambda world: world.with_license(**draw(st.sampled_from([later, known])))


@way("use_not_granted", "unlicensed")
def _use_not_granted(draw: Draw, world: World) -> tuple[World, Repair]:
    world = alone(world)
    use, granted = draw(st.sampled_from(world.needed)), world.licenses[0]["uses"]
    return world.with_license(uses=granted | {use: "deny"}), lambda world: world.with_license(uses=granted)


@way("territory", "unlicensed")
def _territory(draw: Draw, world: World) -> tuple[World, Repair]:
    places = world.purpose["territory"]
    one = "NL" if places == "worldwide" else places[0]
    missing = {"mode": "only", "countries": ["FR", "BE"]} if places != "worldwide" else None
    outside = {"mode": "except", "countries": [one]}
    territory = draw(st.sampled_from([outside, missing or outside]))
    return alone(world).with_license(territory=territory), lambda world: world.with_license(
        territory={"mode": "worldwide"}
    )


@way("model", "unlicensed")
def _model(draw: Draw, world: World) -> tuple[World, Repair]:
    world = alone(world).with_license(models=draw(st.sampled_from([[], ["third"]])))
    return world, lambda world: world.with_license(models=["third", world.purpose["model"]])


@way("editorial", "unlicensed")
def _editorial_licence(_draw: Draw, world: World) -> tuple[World, Repair]:
    world = alone(using(world, *sorted(EDITORIAL_MATTERS)))
    return world.with_license(editorial_only=True), lambda world: world.with_license(editorial_only=False)


@way("editorial", "unlicensed")
def _editorial_picture(draw: Draw, world: World) -> tuple[World, Repair]:
    world = alone(using(world, *sorted(EDITORIAL_MATTERS))).with_asset(is_editorial=True)
    repairs: list[Repair] = [
        lambda world: world.with_asset(is_editorial=False),
        lambda world: world.with_license(tier="editorial"),
    ]
    return world.with_license(tier="data"), draw(st.sampled_from(repairs))


@way("release", "unreleased")
def _release(draw: Draw, world: World) -> tuple[World, Repair]:
    kind, shown = draw(st.sampled_from([("model", "has_people"), ("property", "has_property")]))
    both = {"model": "unlimited", "property": "unlimited"}
    lesser = draw(st.sampled_from([release for release in RELEASES if release != "unlimited"]))
    world = using(world, "generation").with_purpose(uses=["generation"])
    world = world.with_asset(releases=both | {kind: lesser}, **{shown: "yes"})
    return world, released


@way("adult", "unfit")
def _adult(draw: Draw, world: World) -> tuple[World, Repair]:
    repairs: list[Repair] = [
        lambda world: world.with_asset(is_adult=False),
        lambda world: world.with_purpose(adult="allow"),
    ]
    return world.with_asset(is_adult=True).with_purpose(adult="deny"), draw(st.sampled_from(repairs))


@way("minors", "unfit")
def _minors(draw: Draw, world: World) -> tuple[World, Repair]:
    world = world.with_purpose(minors=draw(st.sampled_from(["deny", "deny_unknown"])))
    world = world.with_asset(has_minors="no").with_file(minor_age=())
    age = draw(st.sampled_from(["AG-U14", "AG-A15", "AG-A16", "AG-A17"]))
    if draw(st.booleans()):
        return world.with_file(minor_age=(age,)), lambda world: world.with_file(minor_age=())
    return world.with_asset(has_minors="yes"), lambda world: world.with_asset(has_minors="no")


@way("minors", "unfit")
def _age_unstated(draw: Draw, world: World) -> tuple[World, Repair]:
    unstated = draw(st.sampled_from(["unknown", None]))
    world = world.with_purpose(minors="deny_unknown").with_file(minor_age=())
    world = world.with_asset(has_people="yes", has_minors=unstated)
    return world, lambda world: world.with_asset(has_minors="no")


DENYING: list[Changes] = [
    {"data_mining": ("DMI-PROHIBITED",)},
    {"data_mining": ("DMI-PROHIBITED-EXCEPTSEARCHENGINEINDEXING", "DMI-ALLOWED")},
    {"training_mining": (("c2pa.data_mining", "notAllowed"),)},
]
UNASKED: Changes = {"data_mining": (), "training_mining": (), "minor_age": (), "unread": ()}
UNASKED |= {"other_constraints": "", "special_instructions": ""}
ASKING: list[Changes] = [
    {"data_mining": ("DMI-PROHIBITED-SEELINKEDRIGHTSEXPR",)},
    {"training_mining": (("cawg.anything", "constrained"),)},
    {"training_mining": (("assertion", "unread"),)},
    {"minor_age": ("AG-NEW",)},
    {"unread": ("unreadable_xmp",)},
    {"other_constraints": "Ask"},
    {"special_instructions": "Not in Lent"},
]


@way("embedded_prohibition", "unclear")
def _prohibition(draw: Draw, world: World) -> tuple[World, Repair]:
    silent = {"data_mining": (), "training_mining": ()}
    world = using(world, *sorted(MINING)).with_purpose(contract_prevails=["X"])
    repairs: list[Repair] = [
        lambda world: world.with_file(**silent),
        lambda world: world.with_purpose(contract_prevails=[CONTRACT]),
    ]
    denying = silent | draw(st.sampled_from(DENYING))
    return world.with_file(**denying), draw(st.sampled_from(repairs))


@way("embedded_constraint", "unclear")
def _constraint(draw: Draw, world: World) -> tuple[World, Repair]:
    asking = UNASKED | draw(st.sampled_from(ASKING))
    return world.with_file(**asking), lambda world: world.with_file(**UNASKED)


@way("embedded_release", "unclear")
def _lesser_release(draw: Draw, world: World) -> tuple[World, Repair]:
    people = draw(st.sampled_from(["yes", "unknown"]))
    property_ = draw(st.sampled_from(["yes", "unknown", None]))
    world = using(world, "generation").with_purpose(uses=["generation"])
    world = world.with_asset(has_people=people, has_property=property_)
    silent: Changes = {"model_release": (), "property_release": ()}
    lesser: list[Changes] = [{"model_release": ("MR-LMR", "MR-UMR")}, {"property_release": ("PR-NON",)}]
    planted = world.with_file(**silent | draw(st.sampled_from(lesser)))
    return planted, lambda world: world.with_file(**silent)


@way("embedded_conflict", "unclear")
def _conflict(draw: Draw, world: World) -> tuple[World, Repair]:
    kinds = ["trainedAlgorithmicMedia", "http://x.example/compositeWithTrainedAlgorithmicMedia"]
    world = world.with_asset(ai_generated="no").with_file(digital_source=(draw(st.sampled_from(kinds)),))
    repairs: list[Repair] = [
        lambda world: world.with_asset(ai_generated="yes"),
        lambda world: world.with_file(digital_source=("digitalCapture",)),
    ]
    return world, draw(st.sampled_from(repairs))


@way("usage_restrictions", "unclear")
def _usage_restrictions(draw: Draw, world: World) -> tuple[World, Repair]:
    texts = draw(st.lists(st.text("ab ", min_size=1, max_size=9), min_size=1, max_size=32))
    return world.with_asset(usage_restrictions=texts), lambda world: world.with_asset(usage_restrictions=[])


@way("resembles_revoked", "unclear")
def _resembles(draw: Draw, world: World) -> tuple[World, Repair]:
    bits = draw(st.sets(st.integers(0, 255), max_size=31))
    near = f"{sum(1 << bit for bit in bits):064x}"
    file = {**contract.template()["asset"]["file"], "pdq": "0" * 64}
    world = world.with_asset(file=file)
    return world.with_revocation(target_type="content_pdq", targets=[near]), World.without_revocation


@way("contract_prevails", "kept")
def _prevails(draw: Draw, world: World) -> tuple[World, Repair]:
    world = clear(world).with_purpose(contract_prevails=[CONTRACT])
    repairs: list[Repair] = [
        lambda world: world.with_purpose(contract_prevails=["X"]),
        lambda world: replace(world, extracted=Extracted()),
    ]
    return world.with_file(**draw(st.sampled_from(DENYING))), draw(st.sampled_from(repairs))
