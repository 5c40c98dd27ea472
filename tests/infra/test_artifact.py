import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.artifact import (
    Artifact,
    Corrupt,
    Made,
    find_artifact,
    find_shard,
    find_shards,
    fingerprint,
    publish_artifact,
    publish_shard,
)
from infra.storage import Store
from pipeline import refs
from tests.counted import Counted

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), JSON, min_size=2))
def test_a_fingerprint_ignores_the_order_of_keys(value: dict[str, object]) -> None:
    assert fingerprint(value) == fingerprint(dict(reversed(value.items())))


@given(JSON, JSON)
def test_different_values_have_different_fingerprints(a: object, b: object) -> None:
    assert (fingerprint(a) == fingerprint(b)) == (
        json.dumps(a, sort_keys=True) == json.dumps(b, sort_keys=True)
    )


def test_a_shard_exists_only_when_its_manifest_does(store: Store) -> None:
    store.write("shards/filter/k/rows.parquet", b"half of it")
    assert find_shard(store, "filter", "k") is None
    made = Made(files={"rows.parquet": b"all"}, counts={"kept": 2}, facts={"a": [1, 2]})
    shard = publish_shard(store, "filter", "k", made)
    assert find_shard(store, "filter", "k") == shard
    assert refs.of(store, shard, "rows.parquet").read() == b"all"


def test_who_publishes_first_wins_and_what_others_make_under_the_same_key_changes_nothing(
    store: Store,
) -> None:
    """As a worker does that was cut off, and computes sums on another kind of CPU."""
    first = publish_shard(store, "embed", "k", Made(files={"v": b"0.1"}, counts={"kept": 1}))
    before = {name: store.read(name) for name in store.names()}
    late = publish_shard(store, "embed", "k", Made(files={"v": b"0.2"}, counts={"kept": 1}))
    assert late == first
    assert {name: store.read(name) for name in before} == before
    assert refs.of(store, late, "v").read() == b"0.1"


def test_a_file_that_a_dead_worker_left_is_no_other_workers_file(store: Store) -> None:
    """Who is about to list those bytes lists them, and who is here lists its own."""
    store.write("shards/embed/k/v", b"0.1")
    made = Made(files={"v": b"0.2"}, counts={"kept": 1})
    shard = publish_shard(store, "embed", "k", made)
    assert refs.of(store, shard, "v").read() == b"0.2"
    assert store.read("shards/embed/k/v") == b"0.1"
    assert find_shard(store, "embed", "k") == shard


def test_publishing_what_a_dead_worker_had_begun_leaves_what_an_undisturbed_one_does(store: Store) -> None:
    made = Made(files={"v": b"0.1", "w": b"2"}, counts={"kept": 1})
    store.write("shards/embed/k/v", b"0.1")
    publish_shard(store, "embed", "k", made)
    shot = {name: store.read(name) for name in store.names()}
    store.delete(list(shot))
    publish_shard(store, "embed", "k", made)
    assert {name: store.read(name) for name in store.names()} == shot


def test_a_changed_byte_is_named(store: Store) -> None:
    shard = publish_shard(store, "filter", "k", Made(files={"rows.parquet": b"right"}))
    store.write(shard.name("rows.parquet"), b"wrong")
    with pytest.raises(Corrupt, match=r"filter/k/rows\.parquet"):
        refs.of(store, shard, "rows.parquet").read()


def test_an_artifact_comes_back_as_it_was_and_adds_up(store: Store) -> None:
    shards = {
        f"00000-{i:06d}": publish_shard(
            store, "filter", f"k{i}", Made(files={"f": bytes([i])}, counts={"kept": i, "rejected:small": 1})
        )
        for i in range(3)
    }
    artifact = Artifact(step="filter", key="key", settings={"a": 1}, inputs={"images": "x"}, shards=shards)
    assert find_artifact(store, "filter", "key") is None
    publish_artifact(store, artifact)
    assert find_artifact(store, "filter", "key") == artifact
    assert artifact.counts == {"kept": 3, "rejected:small": 3}


@pytest.mark.parametrize("num", [3, 100])
def test_shards_that_are_there_are_found_together_and_others_are_not(store: Store, num: int) -> None:
    keys = [fingerprint(number) for number in range(num)]
    made = {key: publish_shard(store, "filter", key, Made(files={"f": key.encode()})) for key in keys[::2]}
    store.write(f"shards/filter/{keys[1]}/f", b"begun by a worker that died")
    publish_shard(store, "filters", keys[1], Made(files={"f": b"of another step"}))
    assert find_shards(store, "filter", [*keys, *keys]) == made


@pytest.mark.parametrize("done", [0, 40])
def test_a_missing_shard_costs_no_question_and_a_listing_tells_a_thousand_names(done: int) -> None:
    keys = [fingerprint(number) for number in range(5000)]
    store = Counted("corpus")
    for key in keys[:done]:
        publish_shard(store, "filter", key, Made(files={"f": b"x"}))
    store.asked.clear()
    assert set(find_shards(store, "filter", keys)) == {*keys[:done]}
    assert (store.asked["get"], store.asked["list"]) == (done, 16)
