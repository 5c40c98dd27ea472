"""Members of an index with their rights, made of records in memory; and corpora of such, drawn at random."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, get_args

import numpy as np
import pyarrow as pa
from hypothesis import strategies as st

from pipeline import contract, embedded, revisions
from pipeline.contract import Asset, License, Revocation, Use
from pipeline.embedded import NOTHING, Extracted
from pipeline.schema import RECORDS
from pipeline.searching import holdings, members, said
from pipeline.searching.holdings import Holdings
from retrieval.serving.admission import Grant
from retrieval.serving.catalogue import GIVEN, Catalogue

NOW = datetime(2026, 7, 1, tzinfo=UTC)
USES: tuple[Use, ...] = get_args(Use)
ALL = dict.fromkeys(USES, "allow")
SHOWN = frozenset({"retrieval_display"})


def at(days: float) -> str:
    return (NOW + timedelta(days=days)).replace(tzinfo=None).isoformat() + "Z"


def asset(number: int, **changes: Any) -> Asset:
    example = contract.template()["asset"]
    sha256 = hashlib.sha256(str(number).encode()).hexdigest()
    told = {"asset_id": f"a{number}", "description": f"picture {number}", "license_ids": ["l"]}
    file = {**example["file"], "sha256": sha256}
    return Asset.model_validate({**example, **told, "delivery_id": "d0", "file": file, **changes})


def license_(name: str = "l", **changes: Any) -> License:
    base = {**contract.template()["license"], "license_id": name, "uses": ALL}
    return License.model_validate(base | changes)


def revocation(name: str = "r", **changes: Any) -> Revocation:
    base = {**contract.template()["revocation"], "revocation_id": name, "effective_at": at(-1)}
    return Revocation.model_validate(base | changes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """Of some records, all of which are kept."""

    assets: Sequence[Asset]
    """In the order of their ids."""
    table: pa.Table
    holdings: Holdings

    @property
    def catalogue(self) -> Catalogue:
        dated = self.table.append_column(holdings.DATE, self.holdings.dates)
        return Catalogue.of(dated.select(GIVEN.names))

    @property
    def uids(self) -> list[str]:
        return [one.uid for one in self.assets]


def held(
    assets: Sequence[Asset],
    licenses: Sequence[License] | Mapping[str, Sequence[License]] = (),
    *,
    extracted: Mapping[str, Extracted] | None = None,
    unindexed: frozenset[str] = frozenset(),
    gone: Sequence[Asset] = (),
) -> Held:
    """Read as from two shards. ``gone`` came once, and are no members."""
    told = extracted or {}
    table = pa.Table.from_pylist(
        [row(number, one, one.uid not in unindexed) for number, one in enumerate(assets)],
        schema=members.FACTS,
    )
    records = pa.Table.from_pylist(
        [record(one, told.get(one.uid, NOTHING)) for one in assets], schema=RECORDS
    )
    shards = [np.arange(len(assets))[first::2] for first in (1, 0)]
    came = [revisions.of(one.uid, one, one.file.sha256) for one in (*assets, *gone)]
    providers = {one.provider for one in assets}
    known = licenses if isinstance(licenses, Mapping) else dict.fromkeys(providers, licenses)
    return Held(
        assets=assets,
        table=table,
        holdings=holdings.of(
            table,
            [(rows, said.parsed(records.take(pa.array(rows)))) for rows in shards],
            licenses={
                provider: {one.license_id: one for one in known.get(provider, ())} for provider in providers
            },
            came=pa.Table.from_pylist(came, schema=revisions.REVISIONS),
        ),
    )


def row(number: int, one: Asset, indexed: bool) -> dict[str, Any]:  # noqa: FBT001  # a fact of the row
    return {
        "uid": one.uid,
        "revision": one.asset_revision,
        "key": one.member_key,
        "sha256": one.file.sha256,
        "description": one.description,
        "keywords": list(one.keywords),
        "categories": [category.name for category in one.categories],
        "contributor": one.contributor.id,
        "width": one.file.width,
        "height": one.file.height,
        "image_type": one.image_type,
        "ai_generated": one.ai_generated,
        "licenses": [],
        "attribution": "",
        "may_be_neighbor": indexed,
        "may_be_shown": True,
        "reasons": [],
        "group": one.uid,
        "split": "train",
        "slot": f"00000-{number % 2:06}",
        "id": 2 * number + 1,
    }


def record(one: Asset, told: Extracted) -> dict[str, Any]:
    found = {"record": one.model_dump_json(by_alias=True), "extracted": embedded.to_json(told)}
    return {"uid": one.uid, "fault": None, **found}


PROVIDERS = ("acme", "beta")
CONTRIBUTORS = ("c1", "c2", "c:3")
DELIVERIES = ("d0", "d1")
RELEASES = ("m1", "m2")
LICENSES = ("l1", "l2", "l3", "l4")
PLACES = ("DE", "FR", "US")
NUM = 8
SAID = (
    NOTHING,
    NOTHING,
    NOTHING,
    Extracted(data_mining=("DMI-PROHIBITED",)),
    Extracted(training_mining=(("cawg.data_mining", "notAllowed"),)),
    Extracted(training_mining=(("cawg.other", "notAllowed"),)),
    Extracted(special_instructions="ask first"),
)


SPOKEN = {
    "date_created": st.sampled_from([at(-9), at(-5)]),
    "title": st.sampled_from(["", "a title"]),
    "credit_line": st.just("a line"),
    "attribution_text": st.just("a text"),
}


@st.composite
def assets(draw: st.DrawFn) -> list[Asset]:
    found = []
    for number in range(draw(st.integers(1, NUM))):
        released = draw(st.lists(st.sampled_from(RELEASES), unique=True))
        found.append(
            asset(
                number,
                provider=draw(st.sampled_from(PROVIDERS)),
                license_ids=draw(st.lists(st.sampled_from((*LICENSES, "gone")), unique=True, min_size=1)),
                contributor=draw(people()),
                delivery_id=draw(st.sampled_from(DELIVERIES)),
                is_editorial=draw(st.sampled_from([False, False, True])),
                image_type=draw(st.sampled_from(["photo", "vector"])),
                releases={"model": "not_applicable", "property": "none", "model_release_ids": released},
                **draw(
                    st.fixed_dictionaries({}, optional={"date_created": st.sampled_from([at(-9), at(-5)])})
                ),
            )
        )
    return found


def people() -> st.SearchStrategy[dict[str, str]]:
    named = st.fixed_dictionaries({}, optional={"display_name": st.sampled_from(["", "J. Doe"])})
    return st.tuples(st.sampled_from(CONTRIBUTORS), named).map(lambda told: {"id": told[0], **told[1]})


def licenses() -> st.SearchStrategy[list[License]]:
    """Each with a change or two: with more, hardly a member would be shown."""
    denied = st.sets(st.sampled_from(USES), min_size=1, max_size=2)
    countries = st.lists(st.sampled_from(PLACES), unique=True, min_size=1)
    modes = st.sampled_from(["only", "except"])
    change = st.one_of(
        denied.map(lambda uses: {"uses": {**ALL, **dict.fromkeys(uses, "deny")}}),
        st.tuples(modes, countries).map(
            lambda told: {"territory": dict(zip(("mode", "countries"), told, strict=True))}
        ),
        one("covers", ["image"], ["text"]),
        one("valid_from", at(-10), at(0), at(1)),
        one("valid_until", at(0), at(5), at(90)),
        st.just({"valid_until": at(5), "after_term": "unknown"}),
        st.just({"editorial_only": True}),
        one("tier", "data", "editorial"),
        one("models", ["pardalis"], ["other"]),
        one("revoked_at", at(-1), at(1)),
        one("attribution_template", "{title} / {contributor}", "{asset_id} {credit_line}"),
    )
    changes = st.lists(change, max_size=2).map(
        lambda told: {name: value for each in told for name, value in each.items()}
    )
    return st.tuples(*([changes] * len(LICENSES))).map(
        lambda told: [license_(name, **changed) for name, changed in zip(LICENSES, told, strict=True)]
    )


def one(name: str, *values: Any) -> st.SearchStrategy[dict[str, Any]]:
    return st.sampled_from(values).map(lambda value: {name: value})


@st.composite
def revocations(draw: st.DrawFn) -> list[Revocation]:
    targets = {
        "asset": st.integers(0, NUM).map(lambda number: f"a{number}"),
        "contributor": st.sampled_from(CONTRIBUTORS),
        "license": st.sampled_from(LICENSES),
        "delivery": st.sampled_from(DELIVERIES),
        "model_release": st.sampled_from(RELEASES),
        "content_sha256": st.integers(0, NUM).map(lambda number: asset(number).file.sha256),
        "content_pdq": st.just("0" * 64),
    }
    found = []
    for number in range(draw(st.integers(0, 3))):
        kind = draw(st.sampled_from([*targets]))
        ended = draw(st.lists(st.sampled_from(USES), unique=True))
        found.append(
            revocation(
                f"r{number}",
                provider=draw(st.sampled_from(PROVIDERS)),
                target_type=kind,
                targets=draw(st.lists(targets[kind], unique=True, min_size=1, max_size=3)),
                action="restrict" if ended else draw(st.sampled_from(["remove", "replace"])),
                restrict_uses=ended,
                reason=draw(st.sampled_from(["contributor_opt_out", "license_expired"])),
                effective_at=draw(st.sampled_from([at(-1), at(0), at(1)])),
            )
        )
    return found


def grants() -> st.SearchStrategy[Grant]:
    territory = st.just("worldwide") | st.sets(st.sampled_from(PLACES), min_size=1).map(frozenset)
    uses = st.sets(st.sampled_from(USES), max_size=2).map(lambda more: SHOWN | more)
    return st.builds(Grant, uses=uses, territory=territory)
