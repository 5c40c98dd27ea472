"""What a token is for is said in its line, bound to it, and repeated by no message."""

from __future__ import annotations

import pytest

from infra.serving.callers import Anyone, Tokens, digest
from infra.serving.options import TokenLines
from pipeline.grants import Purpose
from pipeline.searching.tokens import read
from retrieval.serving.admission import Grant

FIRST, SECOND, THIRD = "first-token-0123456789", "second-token-0123456789", "third-token-0123456789"


def lines(*told: str) -> TokenLines:
    return TokenLines(lines="\n".join(told), source="a file")


def test_a_line_says_what_its_token_is_for_and_the_corpus_the_rest() -> None:
    guests = read(
        lines(
            FIRST, f"{SECOND} uses=commercial", "", f"{THIRD} territory=US uses=retrieval_display,evaluation"
        ),
        Purpose(territory=("DE", "FR")),
    )
    assert isinstance(guests.callers, Tokens)
    places = frozenset({"DE", "FR"})
    for token, expected in (
        (FIRST, Grant(uses=frozenset({"retrieval_display"}), territory=places)),
        (SECOND, Grant(uses=frozenset({"retrieval_display", "commercial"}), territory=places)),
        (THIRD, Grant(uses=frozenset({"retrieval_display", "evaluation"}), territory=frozenset({"US"}))),
    ):
        assert guests.grants(guests.callers.caller(f"Bearer {token}")) == expected


def test_worldwide_is_a_territory_and_everybody_has_the_corpus_s_own_where_nobody_is_asked() -> None:
    guests = read(lines(f"{FIRST} territory=worldwide"), Purpose(territory=("DE",)))
    assert guests.grants(guests.callers.caller(f"Bearer {FIRST}")).territory == "worldwide"
    guests = read(None, Purpose(territory=("DE",)))
    assert guests.callers == Anyone()
    assert guests.grants(b"") == Grant(uses=frozenset({"retrieval_display"}), territory=frozenset({"DE"}))


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("half-of-a-token", "neither"),
        ("uses=commercial uses=evaluation", "twice"),
        ("use=commercial", "neither"),
        ("uses=sell", "uses= names none"),
        ("uses=", "uses= names none"),
        ("territory=de", "territory="),
        ("territory=DE;FR", "territory="),
        ("territory=", "territory="),
    ],
)
def test_words_that_are_none_start_nothing_and_are_not_repeated(words: str, told: str) -> None:
    with pytest.raises(ValueError, match=f"a file, line 2: .*{told}") as refused:
        read(lines(FIRST, f"{SECOND} {words}"), Purpose())
    assert SECOND not in str(refused.value)
    assert "half-of" not in str(refused.value)


def test_one_token_has_one_line() -> None:
    with pytest.raises(ValueError, match="line 2: that token stands above too"):
        read(lines(FIRST, f"{FIRST} uses=commercial"), Purpose())
    assert digest(FIRST) != digest(SECOND)
