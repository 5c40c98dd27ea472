"""What refuses a run at its start, and what is only blanked; held against the decision, asset by asset."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.cli import run
from infra.corpus import Corpus, Version
from infra.ending import REFUSED, GateRefused, ending
from infra.storage import Store
from pipeline import deciding, embedded, folding, objecting, packs, reading, refs, refused, schema, tables
from pipeline.contract import Asset, License, Revocation, Use, template
from pipeline.embedded import Signals
from pipeline.grants import Case
from pipeline.objecting import TAKES_MODELS, Asked, Objection
from pipeline.outcomes import KEPT
from pipeline.reading import BadConfig
from pipeline.reasons import code_of
from pipeline.records import RECORDS
from pipeline.revoked import Revoked
from pipeline.rights import Purpose, decide
from pipeline.split import TRAIN
from pipeline.step import ROWS
from tests.laws.conftest import TINY, Deliveries, license_, revoke, sample
from trainer import admission, sources
from trainer.admission import AdmissionSection
from trainer.order import MAIN

pytestmark = [pytest.mark.plan, pytest.mark.long, pytest.mark.timeout(240)]
NOW = datetime(2026, 7, 1, tzinfo=UTC)
NUM_ASSETS = 28
OWN = license_().license_id
PLANNED = {"acme:models": "the run's folder is deleted by whoever keeps the register"}
EVERY_USE = ("ml_training", "generation", "retrieval_index", "retrieval_display", "derived_captions")
TERMS: dict[str, dict[str, Any]] = {
    "free": {"uses": {**dict.fromkeys(EVERY_USE, "allow"), "evaluation": "allow"}},
    "local": {"territory": {"mode": "only", "countries": ["NL", "DE"]}},
    "ending": {"valid_until": "2090-01-01T00:00:00Z", "after_term": "unknown"},
    "lasting": {"valid_until": "2090-01-01T00:00:00Z", "after_term": "perpetual"},
    "models": {"after_term": "delete_data_and_models"},
    "named": {},
}
LICENSES = {name: license_(license_id=name, **terms) for name, terms in TERMS.items()}
LICENSES["named"] = LICENSES["named"].model_copy(update={"models": ("pardalis", "leopard")})
NAMES = (*LICENSES, "local free")
"""What assets name, in turn: the last are under two licences."""


@dataclass(frozen=True, slots=True)
class World:
    corpus: Corpus
    version: Version
    deliveries: Deliveries
    made: list[str]

    @property
    def read(self) -> sources.Opened:
        return {MAIN: (self.corpus, self.version)}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Assets under licences of every kind, decided for one country, where all of them are admitted."""
    folder = tmp_path_factory.mktemp("admission")
    samples = [sample(n, license_ids=NAMES[n % len(NAMES)].split()) for n in range(NUM_ASSETS)]
    deliveries = Deliveries(folder)
    uri = deliveries.write(samples, LICENSES)
    config = folder / "tiny.toml"
    config.write_text(f'[pipeline.purpose]\nterritory = ["NL"]\n{TINY}')
    made = ["--corpus", str(folder / "corpus"), "--config", str(config), "--engine", "inline"]
    assert run(["ingest", uri, "--as-of", "2026-06-01T00:00:00Z", *made]) == 0
    assert run(["build", *made]) == 0
    corpus = Corpus(Store.at(folder / "corpus"))
    return World(corpus, corpus.newest(), deliveries, made)


def declared(**changes: Any) -> AdmissionSection:
    """As somebody writes it: with every plan, unless told."""
    return reading.validated(AdmissionSection, {"deletion_plans": PLANNED, **changes}, "a test")


def names_of(uid: str) -> list[str]:
    return NAMES[int(uid[-4:]) % len(NAMES)].split()


def in_training(world: World) -> dict[str, str]:
    """Uid to slot."""
    found = {}
    for slot, shard in world.corpus.artifact(world.version, "split").shards.items():
        for row in tables.read_parquet(refs.of(world.corpus.store, shard, ROWS)).to_pylist():
            if row["outcome"] == KEPT and row["split"] == TRAIN:
                found[row["uid"]] = slot
    return found


def of_license(world: World, name: str) -> set[str]:
    return {uid for uid in in_training(world) if names_of(uid) == [name]}


def refusal(world: World, section: AdmissionSection) -> str:
    with pytest.raises(GateRefused) as caught:
        admission.check(world.read, section, now=NOW)
    assert ending(caught.value, []).code == REFUSED
    return str(caught.value)


def asked(section: AdmissionSection, world: World) -> Asked:
    return Asked(
        purpose=section.purpose(deciding.purpose_of(world.corpus, world.version)),
        planned=section.deletion_plans.keys(),
        as_of=section.as_of or NOW,
        now=NOW,
    )


REASONS = [
    ({"territory": "worldwide"}, "local", "territory", "territory is 'only NL DE'"),
    ({"territory": ["NL", "FR"]}, "local", "territory", "trainer.admission.territory"),
    ({"model": "other"}, "named", "model", "models is 'pardalis, leopard'"),
    (
        {"as_of": "2089-12-15T00:00:00Z"},
        "ending",
        "expires_soon",
        "after_term is 'unknown, and valid_until 2090-01-01T00:00:00+00:00'",
    ),
    ({"deletion_plans": {}}, "models", TAKES_MODELS, "after_term is 'delete_data_and_models'"),
    ({"deletion_plans": {"acme:other": "x"}}, "models", TAKES_MODELS, "deletion_plans.'acme:models' = '…'"),
]


@pytest.mark.parametrize(("changes", "name", "reason", "told"), REASONS)
def test_each_reason_refuses_the_start_and_is_named(
    world: World, changes: dict[str, Any], name: str, reason: str, told: str
) -> None:
    text = refusal(world, declared(**changes))
    (line,) = (line for line in text.splitlines() if line.startswith("  "))
    held = sorted(of_license(world, name))
    assert line.startswith(f"  acme:{name}: ")
    assert f"({reason}), {len(held)} assets: " in line
    assert set(line.partition("assets: ")[2].partition(";")[0].removesuffix(" …").split(", ")) <= set(held)
    assert told in line


def test_a_use_that_is_not_granted_is_named_for_every_licence(world: World) -> None:
    text = refusal(world, declared(uses=["ml_training", "generation", "evaluation"]))
    for name in ("local", "ending", "lasting", "models", "named"):
        count = len(of_license(world, name))
        assert f"acme:{name}: uses.evaluation is 'not named' (use_not_granted:evaluation), {count}" in text
    assert "acme:free" not in text


def test_a_licence_that_has_ended_or_not_begun_refuses_the_start(world: World) -> None:
    over = refusal(world, declared(as_of="2090-01-01T00:00:00Z"))
    assert "acme:lasting: valid_until is '2090-01-01T00:00:00+00:00' (expired)" in over
    assert "acme:ending: valid_until" in over
    early = refusal(world, declared(as_of="2019-12-31T00:00:00Z"))
    assert early.count("(not_yet_valid)") == len(LICENSES)
    assert "`pardalis ingest` and `pardalis build`" in early


def test_what_the_corpus_was_decided_for_is_admitted_and_no_row_is_read(world: World) -> None:
    for changes in ({}, {"territory": ["NL"]}, {"model": "leopard"}, {"as_of": "2089-11-01T00:00:00Z"}):
        section = declared(**changes)
        admission.check(world.read, section, now=NOW)
        assert objecting.is_plain(world.corpus, world.version, asked(section, world))


def test_what_was_not_looked_at_when_the_corpus_was_decided_is_refused(world: World) -> None:
    assert "whether the weights" in refusal(world, declared(commercial=True))
    made = {**world.corpus.artifact(world.version, "decide").settings, "uses": ["ml_training"]}
    decided = Purpose.model_validate(made, strict=False)
    assert "generation" in declared(uses=["generation"]).purpose(decided).needed - decided.needed


def test_declarations_are_read_from_toml_and_places_are_those_of_iso_3166() -> None:
    with pytest.raises(BadConfig, match="UK"):
        declared(territory=["UK"])
    with pytest.raises(BadConfig, match="as_of"):
        declared(as_of="yesterday")
    section = declared(as_of="2026-07-01T00:00:00Z", territory=["NL"])
    assert reading.validated(AdmissionSection, section.model_dump(mode="json"), "again") == section


def test_the_instant_of_the_first_start_stays_with_the_run() -> None:
    later = datetime(2027, 1, 1, tzinfo=UTC)
    first = admission.pinned(declared(), None, NOW)
    assert first.as_of == NOW
    begun = json.loads(first.model_dump_json())["as_of"]
    assert admission.pinned(declared(), begun, later) == first
    told = declared(as_of="2025-01-01T00:00:00Z")
    assert admission.pinned(told, begun, later) == told


def case(*records: License, denied: Sequence[Use] = (), register: Sequence[Revocation] = ()) -> Case:
    """Of an asset under these licences, everywhere."""
    asset, _ = sample(0, license_ids=[record.license_id for record in records])
    return Case(
        asset=asset,
        licenses={record.license_id: record for record in records if record.license_id != "gone"},
        purpose=Purpose(),
        as_of=NOW,
        revoked=Revoked.of(register, NOW),
        signals=Signals(denied=frozenset(denied)),
    )


def revocation(**changes: Any) -> Revocation:
    named = {"target_type": "license", "targets": ["free"]}
    return Revocation.model_validate(template()["revocation"] | named | changes)


RESTRICTED = {"action": "restrict", "restrict_uses": ["generation"]}
ONLY = TERMS["local"]["territory"]
WITHDRAWN = license_(license_id="free", revoked_at="2026-01-01T00:00:00Z")
GROUNDS: list[tuple[Case, set[tuple[str, str]]]] = [
    (case(LICENSES["free"]), set()),
    (case(LICENSES["local"]), {("acme:local", "territory")}),
    (case(LICENSES["local"], LICENSES["free"]), set()),
    (case(LICENSES["local"], LICENSES["free"], register=[revocation()]), set()),
    (case(LICENSES["local"], register=[revocation(targets=["local"])]), set()),
    (case(LICENSES["free"], register=[revocation(**RESTRICTED)]), set()),
    (case(WITHDRAWN), set()),
    (case(LICENSES["local"], WITHDRAWN), set()),
    (case(WITHDRAWN, LICENSES["local"]), set()),
    (case(license_(license_id="local", revoked_at="2026-01-01T00:00:00Z", territory=ONLY)), set()),
    (case(license_(license_id="gone")), {("", "license_missing:gone")}),
    (case(LICENSES["free"], denied=["generation"]), {("", "embedded_prohibition:generation")}),
    (case(LICENSES["models"]), {("acme:models", TAKES_MODELS)}),
    (case(LICENSES["models"], register=[revocation(targets=["models"])]), set()),
    (case(LICENSES["free"], LICENSES["models"]), set()),
    (case(license_(revocation={"revocable": True, "scope": "models_too"})), {(f"acme:{OWN}", TAKES_MODELS)}),
    (case(license_(revocation={"revocable": False, "scope": "models_too"})), set()),
]


@pytest.mark.parametrize(("one", "expected"), GROUNDS)
def test_a_licence_objects_and_a_revocation_does_not(one: Case, expected: set[tuple[str, str]]) -> None:
    """What is lost to a revocation alone is blanked, whatever another licence of the asset lacks."""
    assert set(objecting.grounds(one, ())) == expected


def test_a_use_that_the_corpus_was_not_decided_for_is_weighed_by_asset(world: World) -> None:
    """Every licence grants it; what files say of it was never asked."""
    section = declared(uses=["ml_training", "generation", "retrieval_index"])
    assert not objecting.is_plain(world.corpus, world.version, asked(section, world))
    admission.check(world.read, section, now=NOW)


DECLARED = st.fixed_dictionaries(
    {},
    optional={
        "uses": st.sampled_from([["ml_training"], ["generation", "retrieval_display"], ["evaluation"]]),
        "territory": st.sampled_from(["worldwide", ["NL"], ["DE", "NL"], ["FR"]]),
        "model": st.sampled_from(["pardalis", "leopard", "other"]),
        "as_of": st.sampled_from(["2019-01-01", "2026-06-01", "2089-12-01", "2089-12-02", "2090-01-01"]).map(
            lambda day: f"{day}T00:00:00Z"
        ),
        "deletion_plans": st.sampled_from([PLANNED, {}]),
    },
)


def named(found: Iterable[Objection]) -> set[str]:
    return {uid for one in found for uid in one.examples}


@settings(max_examples=25)
@given(DECLARED)
def test_the_assets_objected_to_are_those_that_the_decision_refuses(
    world: World, changes: dict[str, Any]
) -> None:
    section = declared(**changes)
    told = asked(section, world)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(objecting, "MAX_EXAMPLES", NUM_ASSETS)
        found = objecting.counted(world.corpus, world.version, told)
    by_decision = literal(world, told)
    licence = [one for one in found if one.reason != TAKES_MODELS]
    assert named(licence) == {uid for uid, reasons in by_decision.items() if reasons}
    assert {code_of(one.reason) for one in licence} == {
        code_of(reason) for reasons in by_decision.values() for reason in reasons
    }
    unplanned = set() if section.deletion_plans else of_license(world, "models")
    assert named(one for one in found if one.reason == TAKES_MODELS) == unplanned - named(licence)
    assert all(one.num_assets == len(one.examples) for one in found)
    if objecting.is_plain(world.corpus, world.version, told):
        assert found == []


def literal(world: World, told: Asked) -> dict[str, tuple[str, ...]]:
    """Why each asset of the training split would be refused, by the one function that decides."""
    licenses = folding.licenses(world.corpus.store, world.version, "acme")
    wanted = in_training(world)
    found = {}
    for slot, shard in world.corpus.artifact(world.version, "records").shards.items():
        for row in tables.read_rows(refs.of(world.corpus.store, shard, RECORDS)):
            if wanted.get(row[schema.UID.name]) == slot:
                decision = decide(
                    Asset.model_validate_json(row[schema.RECORD.name]),
                    licenses,
                    purpose=told.purpose,
                    as_of=told.as_of,
                    revoked=Revoked(),
                    extracted=embedded.from_json(row[schema.EXTRACTED.name]),
                )
                found[row[schema.UID.name]] = decision.reasons if decision.outcome != KEPT else ()
    return found


def test_what_is_not_admitted_as_declared_is_blanked_where_a_run_goes_on(world: World) -> None:
    """A licence that ends in the middle stops no run, and nothing is read without one."""
    everywhere = declared(territory="worldwide")
    gone = sources.taken_back(world.read, everywhere)[MAIN]
    assert {uid for uid in gone if uid in in_training(world)} == of_license(world, "local")
    assert sources.taken_back(world.read)[MAIN] == frozenset()


def test_the_counts_come_from_the_packs(world: World) -> None:
    """Every asset of the training split has tokens in the packs for training, and no other has."""
    shards = packs.slots(world.corpus, world.version, TRAIN)
    assert set(packs.by_license(shards)) == {f"acme:{name}" for name in LICENSES}


def test_what_a_revocation_took_back_refuses_nothing_and_is_blanked(world: World) -> None:
    """The last test here: it adds a version, whose packs are not made again."""
    everywhere = declared(territory="worldwide")
    held = sorted(of_license(world, "local"))
    uri = world.deliveries.write([sample(100, license_ids=["free"])], LICENSES)
    revoke(uri, target_type="asset", targets=[uid.partition(":")[2] for uid in held[1:]])
    assert run(["ingest", uri, "--as-of", "2026-06-02T00:00:00Z", *world.made]) == 0
    assert "(territory), 1 assets: " + held[0] in refusal(world, everywhere)
    assert set(held[1:]) <= refused.uids(world.corpus, world.version)
    uri = world.deliveries.write([sample(101, license_ids=["free"])], LICENSES)
    revoke(uri, target_type="license", targets=["local"], revocation_id="all-of-them")
    assert run(["ingest", uri, "--as-of", "2026-06-02T00:00:00Z", *world.made]) == 0
    admission.check(world.read, everywhere, now=NOW)
    blanked = sources.taken_back(world.read, everywhere)[MAIN]
    assert of_license(world, "local") <= blanked
    twofold = {uid for uid in in_training(world) if names_of(uid) == ["local", "free"]}
    assert not twofold & blanked
    ahead = objecting.counted(
        world.corpus, world.version, replace(asked(everywhere, world), now=datetime(2020, 1, 1, tzinfo=UTC))
    )
    assert {one.license for one in ahead} == {"acme:local"}
