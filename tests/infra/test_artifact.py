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
    fingerprint,
    publish_artifact,
    publish_shard,
)
from infra.storage import Store
from pipeline import refs

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
