"""Revocations: what each takes out, from which instant on, and what it leaves."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, get_args

import pytest

from pipeline import contract
from pipeline.contract import Asset, License, Revocation, Use
from pipeline.naming import derived_id
from pipeline.revoked import Revoked
from pipeline.rights import Decision, Purpose, decide

NOW = datetime(2026, 7, 1, tzinfo=UTC)
TICK = timedelta(microseconds=1)
ALL = dict.fromkeys(get_args(Use), "allow")


def asset(**changes: Any) -> Asset:
    return Asset.model_validate(contract.template()["asset"] | {"license_ids": ["l"]} | changes)


def license_(name: str = "l", **changes: Any) -> License:
    base = {**contract.template()["license"], "license_id": name, "uses": ALL}
    return License.model_validate(base | changes)


def revocation(**changes: Any) -> Revocation:
    return Revocation.model_validate(contract.template()["revocation"] | {"revocation_id": "r"} | changes)


def judged(item: Asset, *records: License, revocations: Sequence[Revocation]) -> Decision:
    return decide(
        item,
        {record.license_id: record for record in records},
        purpose=Purpose(),
        as_of=NOW,
        revoked=Revoked.of(revocations, NOW),
    )


def spelled(moment: datetime) -> str:
    return moment.replace(tzinfo=None).isoformat() + "Z"


TARGETS = {
    "asset": "1234567",
    "contributor": "c-77",
    "license": "l",
    "delivery": "d-1",
    "model_release": "m-1",
    "content_sha256": contract.template()["asset"]["file"]["sha256"],
}


@pytest.mark.parametrize("action", ["remove", "replace"])
@pytest.mark.parametrize("kind", TARGETS)
def test_a_revocation_takes_out_what_it_names_from_its_instant_on(kind: str, action: str) -> None:
    releases = {"model": "unlimited", "property": "none", "model_release_ids": ["m-0", "m-1"]}
    item = asset(delivery_id="d-1", releases=releases)
    named = {"target_type": kind, "targets": ["zz" if kind != "content_sha256" else "0" * 64, TARGETS[kind]]}
    due = revocation(**named, action=action, effective_at=spelled(NOW))
    later = revocation(**named, action=action, effective_at=spelled(NOW + TICK))
    assert judged(item, license_(), revocations=[due]).reasons == ("revoked:r",)
    assert judged(item, license_(), revocations=[later]).outcome == "kept"


@pytest.mark.parametrize("kind", TARGETS)
@pytest.mark.parametrize("reason", ["contributor_opt_out", "copyright_takedown"])
def test_a_revocation_names_only_its_own_providers_records_but_for_a_takedown_anybodys_bytes(
    kind: str, reason: str
) -> None:
    item = asset(
        delivery_id="d-1", releases={"model": "none", "property": "none", "model_release_ids": ["m-1"]}
    )
    foreign = revocation(provider="other", target_type=kind, targets=[TARGETS[kind]], reason=reason)
    goes = kind == "content_sha256" and reason == "copyright_takedown"
    assert (judged(item, license_(), revocations=[foreign]).outcome == "kept") == (not goes)
    own = revocation(target_type=kind, targets=[TARGETS[kind]], reason=reason)
    assert judged(item, license_(), revocations=[own]).outcome == "rejected"


def test_an_asset_may_be_named_with_its_provider() -> None:
    assert judged(asset(), license_(), revocations=[revocation(targets=["acme:1234567"])]).reasons == (
        "revoked:r",
    )


def test_an_asset_may_be_named_as_its_provider_calls_it() -> None:
    name = "IMG 0001.final"
    item = asset(asset_id=derived_id(name), extra={"provider_id": name})
    for target in (name, f"acme:{name}", derived_id(name)):
        assert judged(item, license_(), revocations=[revocation(targets=[target])]).reasons == ("revoked:r",)


def test_revoking_one_of_two_licences_leaves_the_other() -> None:
    item = asset(license_ids=["k", "l"])
    one = revocation(target_type="license", targets=["k"])
    assert judged(item, license_("k"), license_("l"), revocations=[one]).license_ids == ("l",)
    assert judged(item, license_("k"), revocations=[one]).reasons == ("license_revoked",)
    both = revocation(target_type="license", targets=["k", "l"])
    assert judged(item, license_("k"), license_("l"), revocations=[both]).reasons == ("revoked:r",)


@pytest.mark.parametrize("kind", ["asset", "license"])
def test_a_restriction_ends_some_uses_and_leaves_the_others(kind: str) -> None:
    def ending(*uses: str) -> Revocation:
        return revocation(
            target_type=kind, targets=[TARGETS[kind]], action="restrict", restrict_uses=list(uses)
        )

    assert judged(asset(), license_(), revocations=[ending("generation")]).reasons == (
        "restricted:generation",
    )
    decision = judged(asset(), license_(), revocations=[ending("retrieval_index", "derived_captions")])
    assert (decision.outcome, decision.may_be_neighbor, decision.may_derive) == ("kept", False, False)
    assert decision.may_be_shown


def test_a_picture_that_resembles_a_revoked_one_waits_for_a_person() -> None:
    near, far = f"{(1 << 31) - 1:064x}", f"{(1 << 32) - 1:064x}"
    known = revocation(target_type="content_pdq", targets=["0" * 64])
    base = contract.template()["asset"]["file"]
    decision = judged(asset(file={**base, "pdq": near}), license_(), revocations=[known])
    assert (decision.outcome, decision.reasons) == ("quarantined", ("resembles_revoked:r",))
    assert judged(asset(file={**base, "pdq": far}), license_(), revocations=[known]).outcome == "kept"


def test_the_order_of_revocations_changes_nothing() -> None:
    some = [revocation(revocation_id=f"r{i}", effective_at=spelled(NOW - i * TICK)) for i in range(3)]
    found = {judged(asset(), revocations=order).reasons for order in itertools.permutations(some)}
    assert found == {("revoked:r2",)}
