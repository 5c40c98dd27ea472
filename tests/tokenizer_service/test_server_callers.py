"""Who may ask the tokenizer's service, and how much of it: laws of tokens, rates and room."""

from __future__ import annotations

import contextlib
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from infra.options import ReadOptions
from infra.serving.callers import Anyone, Rates, Room, Tokens
from infra.serving.listening import bound
from infra.serving.refusal import Refusal
from pipeline.tokenizer.serving import TOKEN, ServeOptions, allowed, chosen, shaped
from tests.tokenizer_service import published
from tests.tokenizer_service.published import Description
from tokenizer_service import vq
from tokenizer_service.coding import NUMERICS

FIRST, SECOND = "first-token-0123456789", "second-token-0123456789"


def test_every_line_of_a_file_is_a_token_and_a_caller_of_its_own() -> None:
    tokens = Tokens.of(f"{FIRST}\n\n  {SECOND}\n", source="a file")
    callers = {tokens.caller(f"Bearer {token}") for token in (FIRST, SECOND)}
    assert len(callers) == 2
    assert FIRST not in repr(tokens)


@pytest.mark.parametrize(
    "shown", [None, "", "Bearer ", "Bearer", f"bearer{FIRST}", f"Basic {FIRST}", f"Bearer {FIRST}x"]
)
def test_whoever_shows_no_such_token_is_refused(shown: str | None) -> None:
    with pytest.raises(Refusal) as refused:
        Tokens.of(FIRST, source="a file").caller(shown)
    assert refused.value.status == 401
    assert FIRST not in str(refused.value)


@pytest.mark.parametrize(
    "lines", ["", "\n \n", "short", f"{FIRST}\nfifteen-letters", f"{FIRST} {SECOND}", "é" * 20]
)
def test_a_file_of_weak_or_no_tokens_starts_nothing_and_is_not_repeated(lines: str) -> None:
    with pytest.raises(ValueError, match="openssl rand -hex 32") as refused:
        Tokens.of(lines, source="the file")
    assert not [word for word in lines.split() if word in str(refused.value)]


def test_without_a_token_nothing_is_served_but_on_loopback_and_by_word() -> None:
    with pytest.raises(ValueError, match="there is no token"):
        allowed(ServeOptions(), {})
    for host in ("0.0.0.0", "10.0.0.1", "::", "example.org"):  # noqa: S104  # refused
        with pytest.raises(ValueError, match="only loopback"):
            allowed(ServeOptions(open=True, host=host), {TOKEN: FIRST})
    for host in ("127.0.0.1", "::1", "localhost"):
        assert allowed(ServeOptions(open=True, host=host), {}) == Anyone()


def test_tokens_come_from_the_file_before_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(FIRST)
    assert allowed(ServeOptions(token_file=file), {TOKEN: SECOND}) == Tokens.of(FIRST, source="")
    assert allowed(ServeOptions(), {TOKEN: SECOND}) == Tokens.of(SECOND, source="")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ({"side": 60}, "--side 60 is no multiple of the model's 8 px; give 56"),
        ({"side": 0}, "give 8"),
        ({"replicas": 0}, "--replicas 0: give a number above 0"),
        ({"max_body_mib": -1.0}, "--max-body-mib"),
        ({"max_body_mib": math.inf}, "--max-body-mib inf"),
        ({"rate": math.nan}, "--rate nan"),
        ({"wait_ms": -1.0}, "--wait-ms -1"),
    ],
)
def test_numbers_that_serve_nothing_are_refused(words: dict[str, Any], told: str) -> None:
    service = ServeOptions(**words)
    with pytest.raises(ValueError, match=told):
        shaped(service, 256 if service.side is None else service.side, 8, NUMERICS)


def test_a_model_and_a_corpus_are_not_named_together(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="leave one out"):
        chosen(ReadOptions(corpus=str(tmp_path)), ServeOptions(model=str(tmp_path / "model.safetensors")))


def test_published_weights_are_served_as_a_file_of_ours_with_their_terms(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    shape = Description(names="taming", multipliers=(1, 2), attends=(1,), blocks=1)
    save_file(published.state(shape), tmp_path / "vqgan.safetensors")
    named = ServeOptions(model=str(tmp_path / "vqgan.safetensors"), model_license="MIT")
    found, _, _ = chosen(ReadOptions(), named)
    model = vq.load(found.read())
    assert model.config.preprocessing.side == 256
    with pytest.raises(ValueError, match="give --side"):
        shaped(named, None, 2, NUMERICS)
    assert model.weights is not None
    assert (model.weights.license, model.weights.noncommercial) == ("MIT", False)


def test_an_address_that_is_taken_is_refused_before_anything_is_started() -> None:
    with bound("127.0.0.1", 0) as taken:
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ValueError, match=f"--port {port}: .*choose another"):
            bound("127.0.0.1", port)


@given(
    asked=st.lists(st.tuples(st.floats(0, 3), st.integers(1, 5)), max_size=60),
    images_s=st.floats(0.5, 10),
    burst=st.floats(1, 10),
)
def test_no_caller_gets_more_than_its_rate_and_one_request_beyond(
    asked: list[tuple[float, int]], images_s: float, burst: float
) -> None:
    rates, now, served, largest = Rates(per_s=images_s, burst=burst), 0.0, 0, 0
    for pause, images in asked:
        now += pause
        refusal = refused(rates, now)
        if refusal is not None:
            assert refusal.retry_after_s is not None
            now += refusal.retry_after_s + 1e-6
            assert refused(rates, now) is None
        rates.charge(b"one", images, now)
        served, largest = served + images, max(largest, images)
        assert served <= burst + images_s * now + largest + 1e-3
    assert refused(rates, now, b"another") is None


def refused(rates: Rates, now: float, caller: bytes = b"one") -> Refusal | None:
    try:
        rates.admit(caller, now)
    except Refusal as refusal:
        return refusal
    return None


@given(grown=st.lists(st.integers(0, 40), max_size=20))
def test_room_is_given_back_whatever_was_refused(grown: list[int]) -> None:
    room = Room(max_requests=2, max_bytes=100)
    with room.place(b"a") as kept:
        kept.grow(30)
        fits = contextlib.nullcontext() if sum(grown) <= 70 else pytest.raises(Refusal, match="queue is full")
        with fits, room.place(b"a") as place:
            for size in grown:
                place.grow(size)
        assert (room.requests, room.bytes) == (1, 30)
        with room.place(b"a"), pytest.raises(Refusal, match="queue is full"), room.place(b"a"):
            pass
    assert (room.requests, room.bytes) == (0, 0)


def test_whatever_the_others_send_a_caller_finds_room() -> None:
    room = Room(max_requests=12, max_bytes=1200, callers=3)
    with contextlib.ExitStack() as held:
        for flooder in (b"a", b"b"):
            with pytest.raises(Refusal, match="queue is full"):
                for _ in range(13):
                    held.enter_context(room.place(flooder)).grow(100)
        for _ in range(2):
            held.enter_context(room.place(b"c")).grow(100)
        assert (room.requests, room.bytes) == (12, 1200)
    assert (room.requests, room.bytes) == (0, 0)
