"""A seeded mutator: bit flips, cuts, splices, repeats and lies in fields that say lengths."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Sequence

MAX_BYTES = 1 << 18
"""Of a mutated input: repeats of repeats end here."""
INTERESTING = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
TOKENS = (
    b'"', b"{", b"[" * 40, b"}", b"\\ud800", b"NaN", b"1e999", b"null", b"\xff\xfe", b"\xef\xbb\xbf", b"\0",
    b"\x1b[2J", b"\xe2\x80\xae", b"../", b"99999999999999999999", b"77777777777", b"ustar\0", b"0001-01-01",
    b"\n", b"IDAT", b"IEND", b"\xff\xd9", b"\xff\xc2", b"VP8X", b"ANMF", b"true", b"-", b'"a":"b",',
)  # fmt: skip
Mutation = Callable[[bytearray, random.Random], None]


def flip(data: bytearray, rng: random.Random) -> None:
    for _ in range(rng.choice((1, 1, 2, 8))):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def byte(data: bytearray, rng: random.Random) -> None:
    data[rng.randrange(len(data))] = rng.randrange(256)


def cut(data: bytearray, rng: random.Random) -> None:
    del data[rng.randrange(len(data)) :]


def drop(data: bytearray, rng: random.Random) -> None:
    at = rng.randrange(len(data))
    del data[at : at + rng.choice((1, 2, 16, 512))]


def repeat(data: bytearray, rng: random.Random) -> None:
    at = rng.randrange(len(data))
    piece = data[at : at + rng.choice((1, 4, 32, 512))]
    data[at:at] = piece * rng.choice((1, 2, 16, 200))


def lie(data: bytearray, rng: random.Random) -> None:
    """Another number where a length may stand."""
    order, value = rng.choice("<>"), rng.choice(INTERESTING)
    wide = struct.pack(order + "I", value)
    number = wide if rng.random() < 0.5 else struct.pack(order + "H", value & 0xFFFF)
    at = rng.randrange(len(data))
    data[at : at + len(number)] = number


def token(data: bytearray, rng: random.Random) -> None:
    at, word = rng.randrange(len(data)), rng.choice(TOKENS)
    data[at : at + rng.choice((0, len(word)))] = word


def number(data: bytearray, rng: random.Random) -> None:
    """Another digit where a digit stands."""
    digits = [at for at, value in enumerate(data[:4096]) if 0x30 <= value <= 0x39]
    if digits:
        data[rng.choice(digits)] = rng.choice(b"0123456789-e.")


MUTATIONS: Sequence[Mutation] = (flip, flip, byte, cut, drop, repeat, lie, token, number)


def mutated(data: bytes, others: Sequence[bytes], rng: random.Random) -> bytes:
    """One to four mutations; at times a splice with another input."""
    out = bytearray(data)
    if rng.random() < 0.1:
        other = rng.choice(others)
        out[rng.randrange(len(out)) :] = other[rng.randrange(len(other)) :]
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        if not out:
            break
        rng.choice(MUTATIONS)(out, rng)
    return bytes(out[:MAX_BYTES])
