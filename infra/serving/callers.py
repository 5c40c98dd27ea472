"""Who may ask, and how much: tokens, a rate for each of them, and the room that all share.

The surprising rule: a token is kept as its sha256 and nothing else. What is not here cannot be logged, and
hashes are of one length, so that comparing them in constant time tells nothing of the token.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from infra.serving.refusal import Refusal

SHORTEST = 16
"""Characters of a token: 64 bits where they are hexadecimal digits."""
SCHEME = "bearer "
FULL_RETRY_S = 1.0
Caller = bytes
"""The digest of a token; nothing, where nobody is asked for one."""


@dataclass(frozen=True, slots=True)
class Anyone:
    """Nobody is asked for a token: for loopback alone."""

    @property
    def count(self) -> int:
        return 1

    def caller(self, _authorization: str | None) -> bytes:
        return b""


@dataclass(frozen=True, slots=True)
class Tokens:
    """Those who hold one of the tokens whose sha256 are these."""

    digests: frozenset[bytes]

    @property
    def count(self) -> int:
        return len(self.digests)

    @classmethod
    def of(cls, lines: str, *, source: str) -> Tokens:
        """One token a line. ``source`` is for messages, which never repeat what it holds."""
        tokens = [line.strip() for line in lines.splitlines() if line.strip()]
        if not tokens:
            raise ValueError(f"{source} holds no token; make one with `openssl rand -hex 32`")
        for number, token in enumerate(tokens, start=1):
            if len(token) < SHORTEST or not token.isascii() or not token.isprintable() or " " in token:
                raise ValueError(
                    f"{source}, line {number}: a token has at least {SHORTEST} printable ASCII characters "
                    "and no space; make one with `openssl rand -hex 32`"
                )
        return cls(frozenset(map(digest, tokens)))

    def caller(self, authorization: str | None) -> bytes:
        """The digest of the token that a request shows."""
        given = authorization or ""
        shown = digest(given[len(SCHEME) :].strip()) if given.lower().startswith(SCHEME) else b""
        known = [one for one in self.digests if hmac.compare_digest(one, shown)]  # all of them, found or not
        if not known:
            told = "wrong token" if shown else "no token"
            raise Refusal(401, told, fix="send the header Authorization: Bearer TOKEN")
        return known[0]


Callers = Anyone | Tokens


def digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "replace")).digest()


@dataclass(slots=True, kw_only=True)
class Rates:
    """A token bucket for each caller, counted in what the service counts: images, searches.

    A request is let in while one of them is left, and takes it; the others that it brings are charged when
    their number is known: a large one leaves a debt, which the next has to wait for.
    """

    per_s: float
    burst: float
    """At once, after a pause."""
    unit: str = "images"
    _filled: dict[Caller, tuple[float, float]] = field(default_factory=dict)
    """By caller: what is left, and when that was so."""

    def admit(self, caller: Caller, now: float) -> None:
        left = self._left(caller, now)
        if left < 1:
            raise Refusal(
                429,
                f"too many {self.unit}",
                value=f"{self.per_s:g} {self.unit} a second are allowed, {self.burst:g} at once",
                fix="ask again after the seconds in Retry-After",
                retry_after_s=(1 - left) / self.per_s,
            )
        self._filled[caller] = (left - 1, now)

    def charge(self, caller: Caller, num: int, now: float) -> None:
        """For what a request that was admitted brings."""
        self._filled[caller] = (self._left(caller, now) - (num - 1), now)

    def _left(self, caller: Caller, now: float) -> float:
        left, then = self._filled.get(caller, (self.burst, now))
        return min(self.burst, left + (now - then) * self.per_s)


@dataclass(slots=True, kw_only=True)
class Room:
    """Requests, and bytes of their bodies, that are held at once. Whoever finds it full comes again later.

    Half of it is shared out: so much of the room waits for each caller, whatever the others send.
    """

    max_requests: int
    max_bytes: int
    callers: int = 1
    _requests: Counter[Caller] = field(default_factory=Counter)
    _bytes: Counter[Caller] = field(default_factory=Counter)

    @property
    def requests(self) -> int:
        return self._requests.total()

    @property
    def bytes(self) -> int:
        return self._bytes.total()

    @contextlib.contextmanager
    def place(self, caller: Caller) -> Iterator[Place]:
        if self._left(self._requests, caller, self.max_requests) < 1:
            raise full(f"{self.requests} requests are waiting, {self._requests[caller]} of this token")
        place = Place(room=self, caller=caller)
        self._requests[caller] += 1
        try:
            yield place
        finally:
            self._requests[caller] -= 1
            self._bytes[caller] -= place.bytes

    def grow(self, caller: Caller, by: int) -> None:
        if self._left(self._bytes, caller, self.max_bytes) < by:
            raise full(f"{self.bytes} bytes of requests are waiting, {self._bytes[caller]} of this token")
        self._bytes[caller] += by

    def _left(self, held: Counter[Caller], caller: Caller, most: int) -> int:
        """For this caller, beside what is held and what waits for the others."""
        share = most // (2 * self.callers)
        taken = sum(min(share, num) for other, num in held.items() if other != caller)
        return most - held.total() - (share * (self.callers - 1) - taken)


@dataclass(slots=True, kw_only=True)
class Place:
    """One request's, which grows with its body."""

    room: Room
    caller: Caller
    bytes: int = 0

    def grow(self, by: int) -> None:
        self.room.grow(self.caller, by)
        self.bytes += by


def full(value: str) -> Refusal:
    fix = "ask again after the seconds in Retry-After"
    return Refusal(503, "the queue is full", value=value, fix=fix, retry_after_s=FULL_RETRY_S)
