"""Personal data: each kind where its check holds, none where it does not, and nothing left when redacted."""

import itertools
import random

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import pii, schema
from pipeline.filters import READS, FilterRules, judge
from pipeline.personal import redacted
from tests.benchmarks.sentences import CLEAN, PERSONAL


def kinds(text: str) -> set[str]:
    return {kind for _, _, kind in pii.spans(text)}


@pytest.mark.parametrize(("text", "kind"), PERSONAL)
def test_what_is_personal_is_found_by_its_kind(text: str, kind: str) -> None:
    assert kinds(text) == {kind}


@pytest.mark.parametrize("text", CLEAN)
def test_numbers_of_catalogs_are_not_personal(text: str) -> None:
    assert kinds(text) == set()


@pytest.mark.parametrize(
    "text",
    [
        "4111 1111 1111 1112",
        "DE89 3704 0044 0532 0130 01",
        "DE89 3704 0044 0532 0130",
        "000-12-3456",
        "666-12-3456",
        "900-12-3456",
        "536-00-8471",
        "12345678A",
        "RSSMRA85T10A562T",
        "131052-308U",
        "529.982.247-26",
        "1 85 05 78 006 084 92",
        "256.1.1.1",
        "1.2.3.4.5",
        "a@b",
        "@ann and #dogs",
        "5 of 1234567",
    ],
)
def test_a_number_whose_check_fails_is_not_personal(text: str) -> None:
    assert kinds(text) == set()


@given(st.lists(st.sampled_from([*CLEAN, *(text for text, _ in PERSONAL)]), max_size=4), st.randoms())
def test_redaction_leaves_nothing_to_find(texts: list[str], order: random.Random) -> None:
    order.shuffle(texts)
    once = pii.redacted("; ".join(texts))
    assert kinds(once) == set()
    assert pii.redacted(once) == once


@given(st.text(st.sampled_from("0123456789 .-@+aZ(:")))
def test_findings_never_overlap_and_redaction_ends(text: str) -> None:
    found = sorted(pii.spans(text))
    for (_, end, _), (start, _, _) in itertools.pairwise(found):
        assert end <= start
    assert len(pii.redacted(text)) <= len(text) + len("[national_id]") * len(found)


def row(description: str, *keywords: str) -> dict[str, object]:
    return {"description": description, "keywords": list(keywords)}


def test_a_row_is_quarantined_by_the_kind_and_the_verdict_does_not_repeat_it() -> None:
    table = pa.Table.from_pylist(
        [row("a dog"), row("mail ann@example.org"), row("a dog", "dog", "tel. 030 1234567")], pa.schema(READS)
    )
    (verdicts,) = judge(table, FilterRules()).columns
    assert verdicts.to_pylist() == [None, "quarantined:pii_email: 1 > 0", "quarantined:pii_phone: 1 > 0"]
    (kept,) = judge(table, FilterRules(pii="redact")).columns
    assert kept.to_pylist() == [None] * 3


def test_redacted_rows_are_the_same_rows_with_placeholders() -> None:
    kind = pa.schema([schema.DESCRIPTION, schema.UID, schema.KEYWORDS])
    rows = [
        {**row("mail ann@example.org", "dog", "+49 30 901820"), "uid": "a:1"},
        {**row("a dog"), "uid": "a:2"},
    ]
    table = redacted(pa.Table.from_pylist(rows, kind))
    assert table.schema.equals(kind, check_metadata=True)
    assert table.to_pylist() == [
        {**row("mail [email]", "dog", "[phone]"), "uid": "a:1"},
        {**row("a dog"), "uid": "a:2"},
    ]
