"""What a search may ask: every bound from both sides, and a refusal that names the field."""

from __future__ import annotations

import json
from datetime import date
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.serving.refusal import Refusal
from retrieval.serving import queries
from retrieval.serving.catalogue import Where
from retrieval.serving.queries import Bounds, Given, Named, Picture, Query, Words, parsed

from .searched import in_base64

BOUNDS = Bounds(width=3, uses=frozenset({"retrieval_display", "commercial"}))


def read(**asked: Any) -> Query:
    return parsed(json.dumps(asked).encode(), BOUNDS)


def test_every_part_is_read_with_its_weight_and_one_without_a_weight_counts_1() -> None:
    found = read(
        uid="acme:1",
        vector=[0, 3, 4],
        image=in_base64(b"file"),
        text="at night",
        weights={"text": -0.6, "image": 1},
    )
    words, picture, vector, named = found.parts
    assert (words, picture, named) == (Words("at night"), Picture(b"file"), Named("acme:1"))
    assert isinstance(vector, Given)
    assert vector.vector_D.tolist() == [0, 3, 4]
    assert found.weights == (-0.6, 1, 1, 1)
    assert (found.k, found.where, found.uses, found.territory) == (60, Where(), frozenset(), None)


def test_what_narrows_is_read_as_sets_and_days() -> None:
    where = {
        "license": ["a", "b"],
        "orientation": ["square"],
        "since": "2026-01-31",
        "until": "2026-02-01",
        "uses": ["commercial"],
        "territory": ["DE", "FR", "DE"],
    }
    found = read(text="x", where=where)
    facets = (("license", frozenset("ab")), ("orientation", frozenset({"square"})))
    assert found.where == Where(facets=facets, since=date(2026, 1, 31), until=date(2026, 2, 1))
    assert (found.uses, found.territory) == (frozenset({"commercial"}), frozenset({"DE", "FR"}))


WITHIN: list[dict[str, Any]] = [
    {"text": "x" * 2000},
    {"text": "x", "k": 1},
    {"text": "x", "k": 200},
    {"text": "x", "weights": {"text": 10}},
    {"text": "x", "weights": {"text": -10}},
    {"text": "x", "where": {"license": [str(number) for number in range(100)]}},
    {"text": "x", "where": {"license": ["x" * 256]}},
    {"vector": [1e-30, 0, 0]},
    {"image": in_base64(bytes(queries.MAX_IMAGE))},
]


@pytest.mark.parametrize("asked", WITHIN, ids=range(len(WITHIN)))
def test_what_is_just_within_a_bound_is_read(asked: dict[str, Any]) -> None:
    read(**asked)


BEYOND: list[tuple[dict[str, Any], int, str]] = [
    ({}, 422, "nothing is asked"),
    ({"k": 3}, 422, "nothing is asked"),
    ({"text": ""}, 422, "text is no text"),
    ({"text": " \n"}, 422, "text is no text"),
    ({"text": 3}, 422, "text is no text"),
    ({"text": None}, 422, "text is no text"),
    ({"text": "x" * 2001}, 413, "text is too long"),
    ({"text": "x", "k": 0}, 422, "k is"),
    ({"text": "x", "k": 201}, 422, "k is"),
    ({"text": "x", "k": 1.0}, 422, "k is"),
    ({"text": "x", "k": True}, 422, "k is"),
    ({"text": "x", "kk": 3}, 422, "the body has a field"),
    ({"text": "x", "weights": {"text": 10.01}}, 422, "weights.text"),
    ({"text": "x", "weights": {"text": "1"}}, 422, "weights.text"),
    ({"text": "x", "weights": {"text": True}}, 422, "weights.text"),
    ({"text": "x", "weights": {"words": 1}}, 422, "weights has a field"),
    ({"text": "x", "weights": {"text": 1, "image": 1}}, 422, "weights has a field"),
    ({"text": "x", "weights": [1]}, 422, "weights is no object"),
    ({"text": "x", "weights": {"text": 0}}, 422, "every weight is 0"),
    ({"text": "x", "uid": "a:b", "weights": {"text": 0, "uid": 0}}, 422, "every weight is 0"),
    ({"vector": [1, 2]}, 422, "vector"),
    ({"vector": [1, 2, 3, 4]}, 422, "vector"),
    ({"vector": [1, 2, "3"]}, 422, "vector"),
    ({"vector": [1, 2, True]}, 422, "vector"),
    ({"vector": [0, 0, 0]}, 422, "no direction"),
    ({"vector": [1e39, 0, 0]}, 422, "no direction"),
    ({"vector": [1e-60, 0, 0]}, 422, "no direction"),
    ({"image": "no base64!"}, 422, "image is no base64"),
    ({"image": ["AA=="]}, 422, "image is no base64"),
    ({"image": in_base64(bytes(queries.MAX_IMAGE + 1))}, 413, "image is too large"),
    ({"uid": ""}, 422, "uid"),
    ({"uid": "x" * 257}, 422, "uid"),
    ({"text": "x", "where": []}, 422, "where is no object"),
    ({"text": "x", "where": {"licence": ["a"]}}, 422, "where has a field"),
    ({"text": "x", "where": {"license": "a"}}, 422, "where.license"),
    ({"text": "x", "where": {"license": []}}, 422, "where.license"),
    ({"text": "x", "where": {"license": [str(number) for number in range(101)]}}, 422, "where.license"),
    ({"text": "x", "where": {"license": ["x" * 257]}}, 422, "where.license"),
    ({"text": "x", "where": {"license": [3]}}, 422, "where.license"),
    ({"text": "x", "where": {"since": "2026-02-30"}}, 422, "where.since"),
    ({"text": "x", "where": {"since": "20260201"}}, 422, "where.since"),
    ({"text": "x", "where": {"until": 3}}, 422, "where.until"),
    ({"text": "x", "where": {"uses": ["sell"]}}, 422, "where.uses"),
    ({"text": "x", "where": {"territory": ["de"]}}, 422, "where.territory"),
    ({"text": "x", "where": {"territory": ["UK"]}}, 422, "where.territory"),
]


@pytest.mark.parametrize(("asked", "status", "told"), BEYOND, ids=range(len(BEYOND)))
def test_what_is_just_beyond_is_refused_by_its_field(asked: dict[str, Any], status: int, told: str) -> None:
    with pytest.raises(Refusal) as refused:
        read(**asked)
    assert refused.value.status == status
    assert told in refused.value.error
    assert refused.value.fix


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b'"text"', b'{"vector": [NaN, 1, 1]}', b'{"text": "a", "text": "b"}', b"\xff"]
)
def test_what_is_no_plain_json_object_is_refused(body: bytes) -> None:
    with pytest.raises(Refusal) as refused:
        parsed(body, BOUNDS)
    assert refused.value.status == 422


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["text", "license", "since", "k"]), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from([*queries.BODY, "other"]), VALUES, max_size=5))
def test_whatever_is_sent_is_read_or_refused(asked: dict[str, Any]) -> None:
    try:
        found = read(**asked)
    except Refusal:
        return
    assert 1 <= found.k <= 200
    assert len(found.parts) == len(found.weights) >= 1
    assert np.isfinite(found.weights).all()
