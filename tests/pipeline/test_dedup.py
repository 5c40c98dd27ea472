"""Laws of the dedup step: how a delivery was cut into shards, and in which order, does not matter."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.artifact import Artifact, Made, Shard, publish_shard
from infra.corpus import Version
from infra.storage import Store
from pipeline import dedup, schema, tables
from pipeline.duplicates import DuplicateConfig
from pipeline.embed import FEATURES
from pipeline.likeness.gathering import READS
from pipeline.likeness.keepers import ranks
from pipeline.step import ROWS, slot_name
from pipeline.tables import list_column

from .test_duplicates import altered, looks, photo

Row = dict[str, Any]
CHANGES = ("as it is", "JPEG at quality 40", "half the size", "10 % more light")
PICTURES = range(4)
SEEN = {
    (picture, change): looks([np.asarray(altered(photo(picture))[change])])
    for picture in PICTURES
    for change in CHANGES
}
"""What is compared of every picture and its altered copies."""


@dataclass(frozen=True, slots=True)
class Shelf:
    """Shards on a local store, as a step finds them."""

    store: Store
    version: Version
    shards: dict[str, dict[str, Shard]]

    def artifact(self, step: str) -> Artifact:
        return Artifact(step=step, key=step, settings={}, inputs={}, shards=self.shards[step])


def row(number: int, picture: int, change: str, **changes: Any) -> Row:
    seen = SEEN[picture, change]
    return {
        "uid": f"acme:{number:03d}",
        "revision": 0,
        "outcome": "kept",
        "sha256": hashlib.sha256(f"{picture} {change}".encode()).hexdigest(),
        "phash": int(seen.hashes_N[0]),
        "phash_mirrored": int(seen.mirrored_N[0]),
        "structure": seen.signatures.structure_NGGF.tobytes(),
        "tint": seen.signatures.tint_NGGC.tobytes(),
        "may_be_neighbor": True,
        "may_be_shown": True,
        "may_derive": False,
        "licenses": ["one"],
        "width": 160,
        "height": 120,
        "release": "none",
        **changes,
    }


FEATURES_OF = {picture: np.random.default_rng(picture).normal(size=16) for picture in PICTURES}


def shelved(root: Path, deliveries: Sequence[Sequence[Sequence[Row]]]) -> Shelf:
    """Deliveries of shards of rows, as ``screen`` and ``features`` leave them."""
    store = Store.at(root)
    found: dict[str, dict[str, Shard]] = {"screen": {}, "features": {}}
    kinds = pa.schema([*READS])
    for number, shards in enumerate(deliveries):
        for place, rows in enumerate(shards):
            slot = slot_name(number, place)
            table = tables.of_rows(rows, kinds)
            vectors_ND = np.array([FEATURES_OF[int(one["uid"][-1]) % 4] for one in rows]).reshape(-1, 16)
            features = pa.table(
                [table["uid"], table["revision"], list_column(vectors_ND), list_column(vectors_ND)],
                schema=pa.schema([field for field in schema.FEATURES if field not in schema.LOOKS]),
            )
            for step, file, data in (
                ("screen", ROWS, tables.to_parquet(table)),
                ("features", FEATURES, tables.to_ipc(features)),
            ):
                found[step][slot] = publish_shard(store, step, f"{slot}", Made(files={file: data}))
    return Shelf(store, Version(number=0), found)


def parquet(data: bytes) -> pa.Table:
    return pq.read_table(pa.BufferReader(data))


def told(
    root: Path, deliveries: Sequence[Sequence[Sequence[Row]]], config: DuplicateConfig
) -> dict[str, Any]:
    """What every row and every link says, by uid."""
    step, found = dedup.step(config), {}
    for task in step.tasks(shelved(root, deliveries)):
        made = step.open()(task, lambda *_: None)
        parts = [parquet(data) for name, data in made.files.items() if name != dedup.LINKS]
        judged = pa.concat_tables(parts).to_pylist()
        assert sum(made.counts.values()) == len(judged)
        links = {link["uid"]: link for link in parquet(made.files[dedup.LINKS]).to_pylist()}
        assert set(links) == {one["uid"] for one in judged if one["verdict"] is not None}
        found |= {one["uid"]: (one["group"], one["verdict"], links.get(one["uid"])) for one in judged}
    return found


ROWS_OF = st.lists(
    st.tuples(st.sampled_from(PICTURES), st.sampled_from(CHANGES), st.integers(0, 2), st.integers(0, 2)),
    min_size=1,
    max_size=16,
)
"""Rows as (picture, change, delivery, licences beside the first)."""
BY_FEATURES = DuplicateConfig(semantic_threshold=0.95, mirrored=True)


def world(drawn: Sequence[tuple[int, str, int, int]]) -> list[list[Row]]:
    """Rows by delivery."""
    rows = [
        (delivery, row(number, picture, change, licenses=["one", "two", "three"][: 1 + more]))
        for number, (picture, change, delivery, more) in enumerate(drawn)
    ]
    return [[one for delivery, one in rows if delivery == number] for number in range(3)]


def cut(rows: Sequence[Row], ways: int, seed: int) -> list[list[Row]]:
    order = np.random.default_rng(seed).permutation(len(rows))
    return [[rows[place] for place in part] for part in np.array_split(order, ways)]


@pytest.mark.long
@settings(max_examples=15)
@given(ROWS_OF, st.sampled_from([DuplicateConfig(), BY_FEATURES]), st.integers(0, 2**32))
def test_shards_and_the_order_of_rows_change_nothing(
    tmp_path_factory: pytest.TempPathFactory,
    drawn: list[tuple[int, str, int, int]],
    config: DuplicateConfig,
    seed: int,
) -> None:
    deliveries = world(drawn)
    whole = told(tmp_path_factory.mktemp("whole"), [[rows] for rows in deliveries], config)
    for ways in (1, 2, 4):
        parts = [cut(rows, ways, seed + ways) for rows in deliveries]
        assert told(tmp_path_factory.mktemp("cut"), parts, config) == whole


@pytest.mark.parametrize("change", CHANGES)
def test_a_pair_that_is_split_over_two_deliveries_is_found(tmp_path: Path, change: str) -> None:
    first = [row(1, 0, "as it is"), row(2, 1, "as it is")]
    found = told(tmp_path, [[first], [[row(0, 0, change, width=9000)]]], DuplicateConfig())
    group, verdict, link = found["acme:000"]
    passed = "exact_duplicate" if change == "as it is" else "near_duplicate"
    assert (group, link["keeper"], link["found_by"]) == ("acme:001", "acme:001", passed)
    assert verdict.startswith(f"rejected:{passed}: acme:001")
    assert [found[uid][:2] for uid in ("acme:001", "acme:002")] == [("acme:001", None), ("acme:002", None)]


def test_features_find_what_pixels_do_not_and_are_read_only_then(tmp_path: Path) -> None:
    rows = [row(0, 0, "as it is"), row(4, 1, "as it is"), row(1, 2, "as it is")]
    off, on = DuplicateConfig(), DuplicateConfig(semantic_threshold=0.95)
    assert {uid: verdict for uid, (_, verdict, _) in told(tmp_path / "off", [[rows]], off).items()} == (
        dict.fromkeys(("acme:000", "acme:001", "acme:004"))
    )
    found = told(tmp_path / "on", [[rows]], on)
    assert found["acme:004"][1] == "rejected:semantic_duplicate: acme:000 cosine 1"
    assert found["acme:004"][2]["cosine"] == pytest.approx(1)
    shelf = shelved(tmp_path / "keys", [[rows]])
    assert [set(task.reads) for task in dedup.step(off).tasks(shelf)] == [{"rows 00000"}]
    assert [set(task.reads) for task in dedup.step(on).tasks(shelf)] == [{"rows 00000", "features 00000"}]


def test_rows_that_were_out_before_are_not_judged(tmp_path: Path) -> None:
    rows = [row(0, 0, "as it is", outcome="rejected"), row(1, 0, "as it is")]
    assert told(tmp_path, [[rows]], DuplicateConfig()) == {"acme:001": ("acme:001", None, None)}


def test_an_empty_shard_and_an_empty_delivery_have_files_of_no_rows(tmp_path: Path) -> None:
    assert told(tmp_path, [[[]], [[row(0, 0, "as it is")], []], [[], []]], BY_FEATURES) == {
        "acme:000": ("acme:000", None, None)
    }


BEST_FIRST: dict[str, list[Row]] = {
    "licence_breadth": [
        {"may_derive": True},
        {"licenses": ["one", "two"]},
        {},
        {"may_be_shown": False, "licenses": ["one", "two", "three"]},
    ],
    "resolution": [{"width": 240, "height": 90}, {}, {"width": 10}],
    "release": [{"release": name} for name in ("unlimited", "not_applicable", "limited", "unknown", "none")],
    "first_seen": [{}, {}],
}


@pytest.mark.parametrize("preference", BEST_FIRST)
def test_the_keeper_is_the_best_by_what_is_preferred_and_the_group_is_named_after_the_first(
    tmp_path: Path, preference: Any
) -> None:
    changes = BEST_FIRST[preference]
    rows = [row(number, 0, "as it is", **change) for number, change in enumerate(changes)]
    table = tables.of_rows(rows, pa.schema([*READS]))
    assert ranks(table, (preference,)).tolist() == list(range(len(rows)))
    if preference != "first_seen":
        turned = [{**one, "uid": f"acme:{9 - place}"} for place, one in enumerate(rows)]
        found = told(tmp_path, [[turned]], DuplicateConfig())
        assert [uid for uid, (_, verdict, _) in found.items() if verdict is None] == ["acme:9"]
        assert {group for group, _, _ in found.values()} == {f"acme:{10 - len(rows)}"}


def test_the_weightier_preference_comes_first() -> None:
    rows = [row(0, 0, "as it is", width=9000), row(1, 0, "as it is", licenses=["one", "two"])]
    table = tables.of_rows(rows, pa.schema([*READS]))
    assert ranks(table, ("licence_breadth", "resolution")).tolist() == [1, 0]
    assert ranks(table, ("resolution", "licence_breadth")).tolist() == [0, 1]
    assert ranks(table, ()).tolist() == [0, 1]


def test_a_mirror_image_is_told_how_far_it_is_as_it_was_found(tmp_path: Path) -> None:
    turned = looks([np.ascontiguousarray(np.asarray(photo(0))[:, ::-1])])
    flipped = {
        "sha256": "f" * 64,
        "phash": int(turned.hashes_N[0]),
        "phash_mirrored": int(turned.mirrored_N[0]),
        "structure": turned.signatures.structure_NGGF.tobytes(),
        "tint": turned.signatures.tint_NGGC.tobytes(),
    }
    rows = [row(0, 0, "as it is"), row(1, 0, "as it is", **flipped)]
    found = told(tmp_path, [[rows]], DuplicateConfig(mirrored=True))
    assert found["acme:001"][2]["hamming"] <= 2
