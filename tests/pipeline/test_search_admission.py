"""Laws of admission: what columns decide for all members is what the rules decide for each of them, now."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.countries import COUNTRIES
from pipeline import credit, deciding, rights
from pipeline.contract import License, Revocation
from pipeline.embedded import NOTHING, Extracted, signals
from pipeline.grants import Case, Purpose
from pipeline.revoked import Revoked
from pipeline.searching import standing
from pipeline.searching.admission import Admission, purposed
from retrieval.serving.admission import Admitted, Grant
from retrieval.serving.desk import Desk
from tests.retrieval import searched

from .held import (
    NOW,
    SAID,
    SHOWN,
    Held,
    asset,
    assets,
    at,
    grants,
    held,
    license_,
    licenses,
    revocation,
    revocations,
)

EVERYWHERE = Grant(uses=SHOWN, territory="worldwide")


def standing_of(found: Held, records: Sequence[Revocation], now: datetime = NOW) -> standing.Standing:
    every = [*records, *standing.copies(list(records), found.holdings)]
    return standing.of(every, found.holdings, now)


def admission(
    found: Held, records: Sequence[Revocation] = (), *, purpose: Purpose | None = None, now: datetime = NOW
) -> Admission:
    return Admission(
        holdings=found.holdings,
        purpose=purpose or Purpose(),
        now=lambda: now,
        standing=standing_of(found, records, now),
        own=frozenset({EVERYWHERE}),
    )


def case(found: Held, number: int, grant: Grant, revoked: Revoked, told: Extracted) -> Case:
    """Of one member alone, as the pipeline judges it."""
    one = found.assets[number]
    return Case(
        asset=one,
        licenses=found.holdings.licenses[one.provider],
        purpose=purposed(Purpose(), grant),
        as_of=NOW,
        revoked=revoked,
        signals=signals(told),
    )


def one_by_one(
    found: Held, records: Sequence[Revocation], grant: Grant, extracted: Sequence[Extracted]
) -> list[tuple[tuple[License, ...], bool]]:
    """(the licences under which a member is shown, whether it may be found too), by the rules alone."""
    copies = deciding.copies(list(records), {"": found.holdings.came})
    revoked = Revoked.of([*records, *copies], NOW)
    told = []
    for number, one in enumerate(found.assets):
        judged = case(found, number, grant, revoked, extracted[number])
        shown = () if revoked.covers(one) else rights.admitting(judged)
        indexed = bool(found.holdings.indexed_N[number])
        told.append((shown, bool(shown) and indexed and rights.may_be_neighbor(judged)))
    return told


@st.composite
def worlds(draw: st.DrawFn) -> tuple[Held, list[Revocation], Grant, list[Extracted]]:
    records = draw(assets())
    extracted = draw(st.lists(st.sampled_from(SAID), min_size=len(records), max_size=len(records)))
    unindexed = draw(st.sets(st.sampled_from([one.uid for one in records]), max_size=2))
    found = held(
        records,
        {"acme": draw(licenses()), "beta": draw(licenses())},
        extracted=dict(zip([one.uid for one in records], extracted, strict=True)),
        unindexed=frozenset(unindexed),
        gone=[asset(3, asset_id="a0", contributor={"id": "c2"})],
    )
    return found, draw(revocations()), draw(grants()), extracted


@given(worlds())
def test_what_columns_admit_is_what_the_rules_admit_one_by_one(
    world: tuple[Held, list[Revocation], Grant, list[Extracted]],
) -> None:
    found, records, grant, extracted = world
    admitted = admission(found, records).admit(grant)
    expected = one_by_one(found, records, grant, extracted)
    assert admitted.shown_N.tolist() == [bool(shown) for shown, _ in expected]
    assert admitted.found_N.tolist() == [may_be_found for _, may_be_found in expected]
    for number, (shown, _) in enumerate(expected):
        if shown:
            names = admitted.licenses[admitted.kinds_N[number]]
            assert names == tuple(dict.fromkeys(one.license_id for one in shown))
            expected_credit = credit.owed(credit.facts(found.assets[number]), shown)
            assert admitted.credits(np.array([number])) == [expected_credit]


FILTERS = st.fixed_dictionaries(
    {},
    optional={
        "license": st.lists(st.sampled_from(["l1", "l2", "none"]), min_size=1, unique=True),
        "image_type": st.just(["photo"]),
        "contributor": st.lists(st.sampled_from(["c1", "c:3"]), min_size=1, unique=True),
        "since": st.sampled_from([at(-9)[:10], at(-6)[:10]]),
    },
)


def passes(found: Held, number: int, filters: dict[str, Any], shown: tuple[License, ...]) -> bool:
    one = found.assets[number]
    has = {
        "license": {record.license_id for record in shown},
        "image_type": {one.image_type},
        "contributor": {one.contributor.id},
    }
    since = filters.get("since", "")
    day = "" if one.date_created is None else f"{one.date_created:%Y-%m-%d}"
    return day >= since and all(has[name] & {*filters[name]} for name in has if name in filters)


@given(world=worlds(), filters=FILTERS, words=st.sampled_from("abc"))
def test_the_service_answers_as_a_filter_of_an_exact_search_over_all_members(
    world: tuple[Held, list[Revocation], Grant, list[Extracted]], filters: dict[str, Any], words: str
) -> None:
    found, records, grant, extracted = world
    catalogue = found.catalogue
    vectors_ND = searched.vectors(len(found.assets), seed=1)
    desk = Desk(searched.searcher(catalogue.ids_N, vectors_ND), searched.SHAPE)
    app = searched.door(desk, catalogue, admission(found, records).admit, grants=lambda _: grant)
    answer = searched.search(app, text=words, k=200, **({"where": filters} if filters else {}))
    desk.close()

    told = one_by_one(found, records, grant, extracted)
    allowed = [
        number
        for number, (shown, may_be_found) in enumerate(told)
        if may_be_found and passes(found, number, filters, shown)
    ]
    query_D = searched.direction(words).astype(np.float64)
    scores = {number: float(vectors_ND[number].astype(np.float64) @ query_D) for number in allowed}
    expected = sorted(allowed, key=lambda number: (-np.float32(scores[number]), number))
    assert answer["eligible"] == len(allowed)
    got = [(one["uid"], one["score"]) for one in answer["results"]]
    assert [score for _, score in got] == pytest.approx([scores[n] for n in expected], abs=1e-4)
    assert {uid for uid, _ in got} == {found.assets[number].uid for number in expected}


def shown(admitted: Admitted, found: Held) -> list[str]:
    return [uid for uid, here in zip(found.uids, admitted.shown_N.tolist(), strict=True) if here]


@pytest.mark.parametrize(
    ("target_type", "targets", "left"),
    [
        ("asset", ["a1"], "023"),
        ("asset", ["acme:a1"], "023"),
        ("contributor", ["c1"], "03"),
        ("license", ["l"], "23"),
        ("delivery", ["d1"], "012"),
        ("model_release", ["m1"], "013"),
        ("content_sha256", [asset(0).file.sha256], "123"),
    ],
)
def test_every_type_of_target_takes_out_what_it_names(
    target_type: str, targets: list[str], left: str
) -> None:
    found = held(
        [
            asset(0),
            asset(1, contributor={"id": "c1"}),
            asset(
                2,
                contributor={"id": "c1"},
                license_ids=["l", "other"],
                releases={"model": "none", "property": "none", "model_release_ids": ["m1"]},
            ),
            asset(3, delivery_id="d1", license_ids=["other"]),
        ],
        [license_(), license_("other")],
    )
    taken = revocation(target_type=target_type, targets=targets)
    assert shown(admission(found).admit(EVERYWHERE), found) == found.uids
    assert shown(admission(found, [taken]).admit(EVERYWHERE), found) == [f"acme:a{number}" for number in left]
    others = (
        revocation(provider="beta", target_type=target_type, targets=targets)
        if ":" not in targets[0]
        else None
    )
    if others is not None and target_type != "content_sha256":
        assert shown(admission(found, [others]).admit(EVERYWHERE), found) == found.uids


def test_a_use_that_ended_is_shown_for_no_longer_and_the_others_go_on() -> None:
    found = held([asset(0), asset(1)], [license_()])
    ended = revocation(action="restrict", restrict_uses=["commercial"], targets=["a1"])
    stands = admission(found, [ended])
    assert shown(stands.admit(EVERYWHERE), found) == found.uids
    commercial = Grant(uses=SHOWN | {"commercial"}, territory="worldwide")
    assert shown(stands.admit(commercial), found) == ["acme:a0"]
    display = revocation(action="restrict", restrict_uses=["retrieval_display"], targets=["a1"])
    assert shown(admission(found, [display]).admit(EVERYWHERE), found) == ["acme:a0"]
    indexed = revocation(action="restrict", restrict_uses=["retrieval_index"], targets=["a1"])
    admitted = admission(found, [indexed]).admit(EVERYWHERE)
    assert (shown(admitted, found), admitted.found_N.tolist()) == (found.uids, [True, False])


def test_the_bytes_of_what_is_taken_back_are_out_under_whatever_id_they_came() -> None:
    twin = asset(1, asset_id="twin", contributor={"id": "somebody else"})
    found = held([asset(0), twin], [license_()], gone=[asset(1)])
    taken = revocation(targets=["a1"])
    assert shown(admission(found, [taken]).admit(EVERYWHERE), found) == ["acme:a0"]


def test_it_is_now_that_decides_and_not_the_day_of_the_build() -> None:
    ends, begins = NOW + timedelta(days=3), NOW + timedelta(days=5)
    found = held(
        [asset(0), asset(1, license_ids=["later"])],
        [license_(valid_until=at(3), after_term="perpetual"), license_("later", valid_from=at(5))],
    )
    clock = [NOW]
    stands = admission(found)
    stands.now = lambda: clock[0]
    tick = timedelta(microseconds=1)
    for now, expected in (
        (NOW, ["acme:a0"]),
        (ends - tick, ["acme:a0"]),
        (ends, []),
        (begins - tick, []),
        (begins, ["acme:a1"]),
    ):
        clock[0] = now
        assert shown(stands.admit(EVERYWHERE), found) == expected


def test_what_was_decided_is_kept_until_something_changes() -> None:
    found = held([asset(0), asset(1)], [license_()])
    stands = admission(found)
    before = stands.admit(EVERYWHERE)
    assert stands.admit(EVERYWHERE) is before
    taken = standing_of(found, [revocation(targets=["a1"])])
    stands.prepare(taken)
    assert stands.admit(EVERYWHERE) is before
    stands.load(taken)
    assert shown(stands.admit(EVERYWHERE), found) == ["acme:a0"]
    assert stands.admit(EVERYWHERE) is stands.admit(EVERYWHERE)


def test_what_callers_narrow_their_grants_to_never_takes_the_place_of_a_grant() -> None:
    found = held([asset(0), asset(1)], [license_()])
    stands = admission(found)
    own = stands.admit(EVERYWHERE)
    narrowed = [Grant(uses=SHOWN, territory=frozenset({code})) for code in sorted(COUNTRIES)]
    kept = [stands.admit(grant) for grant in narrowed]
    assert stands.admit(EVERYWHERE) is own
    assert stands.admit(narrowed[-1]) is kept[-1]
    assert stands.admit(narrowed[0]) is not kept[0]
    taken = standing_of(found, [revocation(targets=["a1"])])
    stands.prepare(taken)
    stands.load(taken)
    assert shown(stands.admit(narrowed[-1]), found) == shown(stands.admit(EVERYWHERE), found) == ["acme:a0"]


def test_the_licence_and_the_credit_are_those_of_the_purpose_that_asks() -> None:
    found = held(
        [asset(0, license_ids=["plain", "sold"])],
        [
            license_("plain", uses={**contract_uses(), "retrieval_display": "allow"}),
            license_("sold", attribution_template="(c) {contributor}"),
        ],
    )
    stands = admission(found)
    for uses, name, owed in (
        (SHOWN, "plain", "Photo: J. Doe, Acme Images"),
        (SHOWN | {"commercial"}, "sold", "(c) J. Doe"),
    ):
        admitted = stands.admit(Grant(uses=frozenset(uses), territory="worldwide"))
        assert admitted.licenses[admitted.kinds_N[0]] == (name,)
        assert admitted.credits(np.array([0])) == [owed]
        assert admitted.licensed(frozenset({name})).tolist() == [True]
        assert admitted.license_counts() == {name: 1}


def contract_uses() -> dict[str, str]:
    return {"ml_training": "allow", "generation": "allow"}


def test_a_contract_that_prevails_over_the_file_prevails_here_too() -> None:
    told = {"acme:a0": Extracted(training_mining=(("cawg.other", "notAllowed"),)), "acme:a1": NOTHING}
    found = held([asset(0), asset(1)], [license_()], extracted=told)
    assert shown(admission(found).admit(EVERYWHERE), found) == ["acme:a1"]
    purpose = Purpose(contract_prevails=(license_().contract_id or "",))
    assert shown(admission(found, purpose=purpose).admit(EVERYWHERE), found) == found.uids


def test_members_with_the_same_rights_are_one_kind() -> None:
    many = [asset(number, contributor={"id": f"c{number}"}) for number in range(30)]
    found = held([*many, asset(30, is_editorial=True)], [license_()])
    assert len(found.holdings.kinds) == 2
    assert pa.types.is_date32(found.holdings.dates.type)


def test_dates_are_the_days_of_creation() -> None:
    found = held([asset(0), asset(1, date_created="2019-02-03T23:59:59.5Z")], [license_()])
    assert [str(day) for day in found.catalogue.days_N] == ["2024-05-01", "2019-02-03"]
