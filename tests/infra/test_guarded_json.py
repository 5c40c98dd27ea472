"""The bounded JSON reader takes what has one meaning, and says what it refuses."""

from __future__ import annotations

import contextlib
import json as standard
import pickle
import unicodedata
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.guarded import json
from infra.guarded.refused import Refused

texts = st.text(st.characters(codec="utf-8"), max_size=20).map(
    lambda text: unicodedata.normalize("NFC", text)
)
numbers = st.integers(-(10**18), 10**18) | st.floats(allow_nan=False, allow_infinity=False)
documents = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)


def refusal(raw: bytes, **limits: int) -> str:
    with pytest.raises(Refused) as caught:
        json.loads(raw, file="a.json", limits=json.Limits(**limits))
    return caught.value.rule


@given(documents, st.sampled_from(["ascii", "utf-8"]))
def test_a_document_that_has_one_meaning_comes_back_as_it_was(document: Any, spelled: str) -> None:
    raw = standard.dumps(document, ensure_ascii=spelled == "ascii").encode()
    assert json.loads(raw, file="a.json") == document


@given(st.text(st.characters(codec="utf-8"), max_size=20))
def test_every_string_and_every_key_comes_back_in_normal_form_c(text: str) -> None:
    read = json.loads(standard.dumps({text: [text]}).encode(), file="a.json")
    normal = unicodedata.normalize("NFC", text)
    assert read == {normal: [normal]}


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused_and_nothing_else_is_raised(raw: bytes) -> None:
    with contextlib.suppress(Refused):
        json.loads(raw, file="a.json")


@pytest.mark.parametrize(
    ("raw", "rule"),
    [
        (b'{"license_ids": ["a"], "license_ids": ["b"]}', "duplicate_key"),
        (b'{"a": {"x": 1, "x": 1}}', "duplicate_key"),
        ('{"é": 1, "e\u0301": 2}'.encode(), "duplicate_key"),
        (b'{"\\u0061": 1, "a": 2}', "duplicate_key"),
        (b"[NaN]", "number"),
        (b"[Infinity]", "number"),
        (b"[-Infinity]", "number"),
        (b"[1e999]", "number"),
        (b"[-1e999]", "number"),
        (b"[" + b"1" * 20 + b"]", "number"),
        (b"[" + b"1" * 5000 + b"]", "number"),
        (b'["\\ud800"]', "surrogate"),
        (b'{"\\udfff": 1}', "surrogate"),
        (b'["\xff"]', "utf8"),
        (b'["\xed\xa0\x80"]', "utf8"),
        (b"\xef\xbb\xbf{}", "syntax"),
        (b"{} {}", "syntax"),
        (b"", "syntax"),
        (b"{'a': 1}", "syntax"),
        (b"[1,]", "syntax"),
        (b"[" * 30_000 + b"]" * 30_000, "depth"),
        (b'{"a":' * 10_000 + b"1" + b"}" * 10_000, "depth"),
    ],
)
def test_what_readers_disagree_about_is_refused_by_its_rule(raw: bytes, rule: str) -> None:
    assert refusal(raw) == rule


def test_a_pair_of_surrogates_is_one_character() -> None:
    assert json.loads(b'["\\ud83d\\ude00"]', file="a.json") == ["\U0001f600"]


def test_the_depth_limit_admits_exactly_its_number_of_levels() -> None:
    assert json.loads(b"[[[]]]", file="a.json", limits=json.Limits(max_depth=3)) == [[[]]]
    assert refusal(b"[[[[]]]]", max_depth=3) == "depth"
    assert refusal(b'[[[{"a": 1}]]]', max_depth=3) == "depth"


def test_the_limit_of_a_string_admits_exactly_its_number_of_characters() -> None:
    assert json.loads(b'["xxx"]', file="a.json", limits=json.Limits(max_string=3)) == ["xxx"]
    for raw in (b'["xxxx"]', b'{"xxxx": 1}', b'"xxxx"'):
        assert refusal(raw, max_string=3) == "string"


def test_the_size_limit_admits_exactly_its_number_of_bytes() -> None:
    raw = b'"' + b"x" * 8 + b'"'
    assert json.loads(raw, file="a.json", limits=json.Limits(max_bytes=10)) == "x" * 8
    assert refusal(raw, max_bytes=9) == "size"


def test_integers_of_nineteen_digits_are_read() -> None:
    assert json.loads(b"[-1234567890123456789]", file="a.json") == [-1234567890123456789]


def test_lines_skip_blanks_and_name_the_line_at_fault() -> None:
    assert list(json.lines(b'{"a": 1}\n\n  \n[2]\n', file="x")) == [("line 1", {"a": 1}), ("line 4", [2])]
    with pytest.raises(Refused, match=r"x\.jsonl: line 3: refused by rule number"):
        list(json.lines(b"1\n2\nNaN\n", file="x.jsonl"))


def test_a_refusal_crosses_process_borders_whole() -> None:
    refused = Refused("a.tar", "b.json", "depth", "too deep")
    again = pickle.loads(pickle.dumps(refused))  # noqa: S301  # our own bytes, made on this line
    assert (again.file, again.member, again.rule, again.detail) == ("a.tar", "b.json", "depth", "too deep")
    assert str(again) == str(refused)
