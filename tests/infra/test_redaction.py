"""Masking: no form of a credential passes, honest texts do, and it ends in time whatever it reads."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.redaction import (
    MASK,
    bare_uri,
    credential_places,
    disclosed,
    holds_credential,
    marked,
    masked,
    masked_here,
    masked_tree,
)
from pipeline import contract

CANARY = "Canary7Zq"
AWS_LIKE = f"{CANARY}/K7MDENG+bPxRfiCY"
ODD = f"{CANARY}'\\\"é/+ word"
CREDENTIALS = [
    f"https://user:{CANARY}@host/x",
    f"https://{CANARY}@host/x",
    f"s3://key:{AWS_LIKE}@bucket/prefix",
    f"s3:/key:{AWS_LIKE}@bucket/prefix",
    f"https://user:{CANARY}",
    f"https://a.example/x,https://user:{CANARY}@host/y",
    f"postgres://user:{CANARY}@host:5432/db",
    ascii(f"https://usér:{CANARY}@host"),
    f"aws_secret_access_key = '{CANARY}'",
    f'"password": "two words {CANARY}"',
    json.dumps(json.dumps({"accessToken": f"{CANARY}"})),
    repr({"api_key": CANARY}),
    f"Connection failed with url: /x?a=1&X-Amz-Signature={CANARY}&b=2 (refused)",
    f"?sig={CANARY}",
    f"https://host/x#state=1&access_token={CANARY}",
    f"AccountName=a;AccountKey={CANARY};",
    f"Authorization: Basic {CANARY}",
    repr({"Authorization": f"Token {CANARY}"}),
    f"401 for Bearer {CANARY}",
    f"-----BEGIN RSA PRIVATE KEY-----\n{CANARY}\n-----END RSA PRIVATE KEY-----",
    f"-----BEGIN PRIVATE KEY-----\\n{CANARY}",
    "the key AKIACANARY7ZQ0000000 is unknown",
    rf"https:\/\/user:{CANARY}@h.example\/a.jpg",
    rf"https:\/\/{CANARY}@h.example\/a.jpg",
    rf"https:\\\/\\\/user:{CANARY}@h.example\\\/a.jpg",
    rf"https:\/\/user:{CANARY}",
    rf"https:\/\/a.example\/x,https:\/\/user:{CANARY}@host\/y",
    quote(f"https://user:{AWS_LIKE}@host/x", safe="/"),
    quote(quote(f"https://user:{CANARY}@host/x", safe=""), safe=""),
    f"https://host/a.jpg%3FX-Amz-Signature%3D{CANARY}%26b%3D2",
    f"a.jpg%253fX-Amz-Signature%253d{CANARY}",
    rf"signature\u003d{CANARY}",
    f"pwd={CANARY}",
    f"Server=a;Uid=b;Pwd={CANARY};",
    f"Cookie: session={CANARY}; theme=dark",
    f"Set-Cookie: id={CANARY}; Path=/",
    f'Cookie: a=b; session="{CANARY}"',
    f"Cookie: session='{CANARY}",
    json.dumps(f'Cookie: session="{CANARY}"'),
    repr({"Cookie": f"session={CANARY}"}),
]
QUERIES = [
    f"https://host/x?any={CANARY}",
    f"https://host/x#state=1&code={CANARY}",
    f"s3://b/x?{CANARY}",
    rf"https:\/\/host\/x?any={CANARY}",
    rf"https:\\\/\\\/host\\\/x?any={CANARY}",
    f"https://host/x%3Fany%3D{CANARY}",
    f"https://host/x%3Fany={CANARY}?b",
    f"https://host/x%3Fflag%26any%3D{CANARY}",
    f"https%3A%2F%2Fhost%2Fx%3Fany%3D{CANARY}%26b",
]
HONEST = [
    "dedup       3374 in: kept 1904, rejected:exact_duplicate 1, rejected:near_duplicate 1469  (1821.9/s)",
    "no job server of Ray answers at http://127.0.0.1:8265 (refused); start one",
    "http://[::1]:8265/x, https://registry.example:4873/@scope/name and https://host/page#part",
    "start the cluster with RAY_AUTH_MODE=token, and name its token here with RAY_AUTH_TOKEN_PATH",
    "delivery.json: signature: refused by rule signature: key 'k1': signatures are not verified yet",
    "num_tokens=12 tokens_per_s=3.5 step=tokenize keywords: red",
    "A standard bearer at noon, 12:00. Who holds the secret? mail to j.doe@host.example :/ hotel: ***",
    "Release authorization: signed in 2021. The password, a token; and credentials: none",
    r'{"page": "https:\/\/host.example:8080\/a\/b.jpg", "path": "C:\\/x"}',
    "https://host/why%3F.jpg and https%3A%2F%2Fhost%2F%40joe, 100%25 of https://host/@joe/a%40b.jpg",
    "a cookie: brown, round; cookies: two; the command pwd tells where",
    "2024-05-01T12:00:00Z acme:1234567 sha256=9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b",
]
FRAGMENTS = [*CREDENTIALS, *QUERIES, *HONEST, *'"\\ =:/?@#&', "token", "://", MASK]


@pytest.mark.parametrize("text", CREDENTIALS)
def test_a_credential_is_masked_and_noticed_in_any_form(text: str) -> None:
    for context in (text, f"got {text!r}; mend it", f"({text})"):
        assert "canary" not in masked(context).lower()
        assert holds_credential(context)


@pytest.mark.parametrize("text", QUERIES)
def test_the_query_of_an_address_is_masked_whatever_it_asks(text: str) -> None:
    assert CANARY not in masked(text)
    assert masked(text).startswith(text[:8])


@pytest.mark.parametrize("text", HONEST)
def test_an_honest_text_stays_as_it_is(text: str) -> None:
    assert masked(text) == text
    assert not holds_credential(text)


def test_the_contract_stays_as_it_is() -> None:
    for document in (contract.json_schema(), contract.template()):
        assert masked_tree(document) == json.loads(json.dumps(document))
        assert not credential_places(document)


@given(st.lists(st.sampled_from(FRAGMENTS)).map("".join))
def test_nothing_is_masked_twice(text: str) -> None:
    assert masked(masked(text)) == masked(text)


@pytest.mark.parametrize("text", [f"https://user:{AWS_LIKE}@host/x", f"s3://key:{AWS_LIKE}@b/x?sig=1"])
def test_an_address_that_a_message_cut_short_shows_no_password(text: str) -> None:
    for length in range(len(text)):
        assert "Can" not in masked(text[:length])


@pytest.mark.parametrize(
    ("name", "seen"),
    [
        ("AWS_SECRET_ACCESS_KEY", MASK),
        ("AWS_SESSION_TOKEN", MASK),
        ("RAY_AUTH_TOKEN", MASK),
        ("MYSQL_PWD", MASK),
        ("AZURE_STORAGE_KEY", MASK),
        ("npm_config__authToken", MASK),
        ("RAY_AUTH_TOKEN_PATH", ODD),
        ("AWS_SHARED_CREDENTIALS_FILE", ODD),
        ("TOKENIZERS_PARALLELISM", ODD),
        ("PWD", ODD),
    ],
)
def test_the_value_of_a_secret_variable_is_masked_wherever_it_stands(
    name: str, seen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, ODD + "\n")
    assert masked_here(f"got {ODD}; mend it") == f"got {seen}; mend it"
    assert masked_tree({"a": [{"b": ODD}], ODD: 1}) == {"a": [{"b": seen}], seen: 1}


@pytest.mark.parametrize("spelled", [repr, ascii, json.dumps, lambda text: quote(text, safe="")])
def test_a_secret_is_known_as_messages_spell_it(
    spelled: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_TOKEN", ODD)
    assert CANARY not in masked_here(spelled(ODD))


def test_a_short_value_is_a_word_like_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_TOKEN", "trueish")
    monkeypatch.setenv("OTHER_TOKEN", "trueish8")
    assert masked_here("trueish, trueish8") == f"trueish, {MASK}"


def test_what_goes_by_the_name_of_a_secret_is_masked_in_a_document() -> None:
    document = {"a": [{"password": CANARY, "tokens": "12", "credentials": {"user": "a"}}]}
    assert masked_tree(document) == {"a": [{"password": MASK, "tokens": "12", "credentials": {"user": "a"}}]}
    assert credential_places(document) == ["a.0.password", "a.0.credentials"]


WORDS_OF_NOBODY = f"https://host/a.jpg?key={CANARY}&sign={CANARY}"
"""A query of names that are not known to sign."""


@pytest.mark.parametrize("text", [*CREDENTIALS, *QUERIES, WORDS_OF_NOBODY])
def test_what_is_disclosed_or_marked_has_no_credential_and_no_query(text: str) -> None:
    for context in (text, f"by {text}", f"{text} and others", f"({text}), 'x'"):
        for found in (disclosed(context), marked(context)):
            assert "canary" not in found.lower()
        assert disclosed(marked(context)) == disclosed(context) == disclosed(disclosed(context))


@pytest.mark.parametrize("text", [text for text in CREDENTIALS if "@" in text or "=" in text])
def test_what_was_marked_is_still_refused_and_what_had_a_query_alone_is_not(text: str) -> None:
    assert holds_credential(marked(text)) == holds_credential(text)
    assert marked(marked(text)) == marked(text)
    assert credential_places(marked({"page": "https://host/?id=7", "source": text})) == ["source"]


def test_an_honest_text_is_disclosed_as_it_is() -> None:
    assert disclosed(HONEST) == marked(HONEST) == HONEST


@pytest.mark.parametrize(
    ("uri", "bare"),
    [
        ("https://user:{}@host/a.jpg", "https://host/a.jpg"),
        ("https://{}@host/a.jpg", "https://host/a.jpg"),
        ("https://us er:{}@host/a.jpg", "https://host/a.jpg"),
        (f"s3://key:{AWS_LIKE}@bucket/prefix", "s3://bucket/prefix"),
        ("https://user:a?{}#@host/a.jpg", "https://host/a.jpg"),
        ("https://user:{}", f"https://{MASK}"),
        ("https://host/a.jpg?x='a b' {}", "https://host/a.jpg"),
        ("https://host/a.jpg#{}", "https://host/a.jpg"),
        ("https://host/token={}/a.jpg", f"https://host/token={MASK}"),
        ("s3://bucket/a b.jpg", "s3://bucket/a b.jpg"),
        ("host/a.jpg?{}", "host/a.jpg"),
        (r"https:\/\/user:{}@host\/a.jpg?x", r"https:\/\/host\/a.jpg"),
        ("https://host/a.jpg%3Fx%3Da b {}", "https://host/a.jpg"),
        ("https%3A%2F%2Fuser%3A{}%40host%2Fa.jpg", "https%3A%2F%2Fhost%2Fa.jpg"),
        ("https://host/why%3F.jpg?x={}", "https://host/why%3F.jpg"),
    ],
)
def test_of_an_address_all_that_could_open_it_is_gone(uri: str, bare: str) -> None:
    assert bare_uri(uri.format(CANARY)) == bare
    assert bare_uri(bare) == bare


@pytest.mark.parametrize("text", ["https://u:{}@host/", 'password = "{}"', '{{"token": "{}"}}', "?sig={}"])
def test_what_was_masked_still_shows_that_it_held_a_credential(text: str) -> None:
    assert holds_credential(masked(text.format(CANARY)))


HOSTILE = [
    "a",
    "://",
    ":/",
    "token",
    "token ",
    "token\\",
    "bearer ",
    "https://h/#a",
    "a:/@",
    "-----BEGIN PRIVATE KEY-----",
    ":\\/\\/",
    "\\",
    "%3A%2F",
    "%25",
    "%3A%2Fa%3Ab",
    ":/a%3Ab",
    "%3Fa",
    "cookie: a",
    "pwd",
]


@pytest.mark.long
@pytest.mark.parametrize("piece", HOSTILE)
@pytest.mark.parametrize("start", ["", "https://", r"https:\/\/", "%3A%2F", 'token="', "bearer "])
def test_a_hostile_text_is_read_in_linear_time(start: str, piece: str) -> None:
    text = start + piece * (60_000 // len(piece))
    for clean in (masked, disclosed, bare_uri):
        began = time.process_time()
        clean(text)
        assert time.process_time() - began < 1  # 0.1 s on a slow machine; where it is quadratic, 2 s and more
