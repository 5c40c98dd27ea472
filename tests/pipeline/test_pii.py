"""Personal data: each kind where its check holds, none where it does not, and nothing left when redacted."""

import itertools
import random

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import schema
from pipeline.filtering import national_ids, pii
from pipeline.filtering.personal import redacted
from pipeline.filters import READS, FilterRules, judge
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
        "frames 0010 0020 0030",
        "no12 with some dogs",
        "frame 0044 20 79",
        "no 00442079460958",
        "4111111111111111_large.jpg",
        "\u0661\u0662 oranges, \u0664\u0665\u0666\u0667 m",
        "part 212-555-0187-22",
    ],
)
def test_a_number_whose_check_fails_is_not_personal(text: str) -> None:
    assert kinds(text) == set()


HIDDEN = [
    ("ann@example.org_", "ann@example.org", "email"),
    ("_ann@example.org_", "_ann@example.org", "email"),
    ("**ann@example.org**", "ann@example.org", "email"),
    ("ann@example.org-", "ann@example.org", "email"),
    ("...ann@example.org.", "ann@example.org", "email"),
    ("a" * 65 + "@example.org", "a" * 65 + "@example.org", "email"),
    ("by ann\uff20example.org!", "ann\uff20example.org", "email"),
    ("by a\u200bnn@exam\u00adple.org!", "a\u200bnn@exam\u00adple.org", "email"),
    ("\u200bann@example.org\u200b", "ann@example.org", "email"),
    ("+49\u201130\u2011901820", "+49\u201130\u2011901820", "phone"),
    ("+49\u00a030\u00a0901820-", "+49\u00a030\u00a0901820", "phone"),
    ("tel \u0660\u0663\u0660 \u0669\u0660\u0661\u0668\u0662\u0660", None, "phone"),
    ("Tel.: 030 901820", "030 901820", "phone"),
    ("0044 20 7946 0958", "0044 20 7946 0958", "phone"),
    ("0049 (0) 30 901820", "0049 (0) 30 901820", "phone"),
    ("DE89-3704-0044-0532-0130-00 x", "DE89-3704-0044-0532-0130-00", "iban"),
    ("de89370400440532013000", "de89370400440532013000", "iban"),
    ("BE68 5390 0754 7034 with dogs", "BE68 5390 0754 7034", "iban"),
    ("RSSMRA\u0668\u0665T10A562S", "RSSMRA\u0668\u0665T10A562S", "national_id"),
    ("\uff15\uff13\uff16-22-8471", "\uff15\uff13\uff16-22-8471", "national_id"),
]


TEXTS = [*CLEAN, *(text for text, _ in PERSONAL), *(text for text, _, _ in HIDDEN)]


@given(st.lists(st.sampled_from(TEXTS), max_size=4), st.randoms())
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


def test_a_number_is_found_beside_one_of_another_kind() -> None:
    assert pii.redacted("+49-30-901820 536-22-8471") == "[phone] [national_id]"


@pytest.mark.parametrize(("text", "hidden", "kind"), HIDDEN)
def test_what_is_personal_is_found_in_any_signs_and_redacted_from_its_first_to_its_last(
    text: str, hidden: str | None, kind: str
) -> None:
    hidden = hidden or text.removeprefix("tel ")
    assert [(text[start:end], found) for start, end, found in pii.spans(text)] == [(hidden, kind)]
    assert pii.redacted(text) == text.replace(hidden, f"[{kind}]")


DIGITS = "05\u0660\u0668\u0966\u096b\uff13\U0001d7d8\u00b2\u2460"
"""Of ASCII, Arabic, Devanagari, full width and mathematics; an exponent and a circled one."""


@given(st.text(st.sampled_from(DIGITS + "ABCDEFGHIJKLMNOPQRSTUVWXYZ -.@+\u212a\u017f"), max_size=40))
def test_no_text_of_letters_and_any_digits_ends_in_an_error(text: str) -> None:
    pii.redacted(text)
    national_ids.holds(text)


@given(st.sampled_from(["RSSMRA85T10A562S", "536-22-8471", "131052-308T", "12345678Z"]), st.data())
def test_an_id_in_digits_of_any_script_is_found(number: str, data: st.DataObject) -> None:
    zeros = [0x30, 0x660, 0x966, 0xFF10, 0x1D7D8]
    typed = "".join(
        chr(data.draw(st.sampled_from(zeros)) + int(sign)) if sign.isdigit() else sign for sign in number
    )
    assert kinds(typed) == {"national_id"}


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
