"""Checks a log whose entries each hold the sha256 of the one before: nobody drops or rewrites one unseen.

The surprising rule: whoever rewrites every entry has a sound chain again, so where keys are given the newest
entry must be signed by one of them: it speaks for all before it. A chain does not show that its newest
entries were cut off; keep the last one's hash elsewhere. An entry is a line of a file, or a numbered file of
a folder; its bytes are hashed with the line break or without it, the same way throughout.
"""

from __future__ import annotations

import base64
import hashlib
import importlib
import json
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FIRST = "0" * 64
"""What the first entry names in place of one before it."""
LONGEST = 1 << 28
KEY_BYTES = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    entries: int
    faults: tuple[str, ...]
    """Of the first entry that is wrong, of each signature that is, and of one that is not there."""
    signatures: str
    """``verified``, ``unverified: why``, ``wrong`` or ``none``."""

    @property
    def is_sound(self) -> bool:
        return not self.faults


def check_log(path: Path, keys: Collection[bytes] = ()) -> Checked:
    """``keys``: raw Ed25519 public keys, 32 bytes each. ValueError if there is no such file or folder.

    With keys every signature must be by one of them, and the newest entry must have one.
    """
    entries = _entries(path)
    ways = [_broken(entries, cut) for cut in (False, True)]
    broken = None if None in ways else max((way for way in ways if way is not None), key=lambda way: way[0])
    faults = [] if broken is None else [broken[1]]
    state, wrong = _signatures([(where, _body(data) or {}) for where, data in entries], keys)
    return Checked(entries=len(entries), faults=(*faults, *wrong), signatures=state)


def _entries(path: Path) -> list[tuple[str, bytes]]:
    """(where, bytes with their line break)."""
    if path.is_dir():
        names = sorted(one for one in path.iterdir() if one.suffix == ".json" and one.stem.isdigit())
        found = [(f"{path.name}/{one.name}", _read(one)) for one in names]
        for number, one in enumerate(names, start=1):
            if int(one.stem) != number:
                found[number - 1] = (
                    f"{path.name}/{one.name}: number {number} is gone, or",
                    found[number - 1][1],
                )
                break
        return found
    lines = _read(path).splitlines(keepends=True)
    return [(f"{path.name}, line {number}", line) for number, line in enumerate(lines, start=1)]


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(LONGEST + 1)
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}; name the log, a file of lines or a folder") from None
    if len(data) > LONGEST:
        raise ValueError(f"{path} has over {LONGEST} bytes; check it in parts")
    return data


def _body(data: bytes) -> dict[str, Any] | None:
    try:
        body = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return body if isinstance(body, dict) else None


def _broken(entries: list[tuple[str, bytes]], is_cut: bool) -> tuple[int, str] | None:  # noqa: FBT001  # a way
    """(number, fault) of the first entry that does not name the one before."""
    prev = FIRST
    for number, (where, data) in enumerate(entries):
        body = _body(data)
        if body is None:
            return number, f"{where} is no JSON object: it was changed or cut"
        if body.get("prev") != prev:
            told = str(body.get("prev"))[:16]
            return number, f"{where} names {told}… as the entry before it, which has sha256 {prev[:16]}…"
        prev = hashlib.sha256(data.rstrip(b"\r\n") if is_cut else data).hexdigest()
    return None


def canonical(body: dict[str, Any]) -> bytes:
    """What is signed: without the signature."""
    rest = {name: value for name, value in body.items() if name != "signature"}
    return json.dumps(rest, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def _signatures(told: list[tuple[str, dict[str, Any]]], keys: Collection[bytes]) -> tuple[str, list[str]]:
    signed = [(where, body) for where, body in told if "signature" in body]
    if not keys:
        return ("unverified: no public key was given" if signed else "none"), []
    wrong = [
        f"{where}, the newest entry, is not signed: signatures were taken away, or it was written without a "
        "signing key; write with one"
        for where, body in told[-1:]
        if "signature" not in body
    ]
    if not signed:
        return "none", wrong
    try:
        ed25519 = importlib.import_module("cryptography.hazmat.primitives.asymmetric.ed25519")
        invalid = importlib.import_module("cryptography.exceptions").InvalidSignature
    except ImportError:
        fault = f"{signed[-1][0]} has a signature that nobody checked: run `pip install pardalis[signing]`"
        return "unverified: the library cryptography is not installed", [*wrong, fault]
    publics = [ed25519.Ed25519PublicKey.from_public_bytes(key) for key in keys]
    for where, body in signed:
        try:
            signature = _signature(body["signature"])
        except (ValueError, TypeError, KeyError):
            wrong.append(f"{where} has a signature that cannot be read")
            continue
        if not any(_verifies(public, signature, canonical(body), invalid) for public in publics):
            wrong.append(f"{where} is not signed by a key that was given")
    return ("wrong" if wrong else "verified"), wrong


def _signature(told: Any) -> bytes:
    """Hex, or an object whose ``value`` is base64."""
    return base64.b64decode(told["value"], validate=True) if isinstance(told, dict) else bytes.fromhex(told)


def _verifies(public: Any, signature: bytes, data: bytes, invalid: type[Exception]) -> bool:
    try:
        public.verify(signature, data)
    except invalid:
        return False
    return True


def public_key(path: Path) -> bytes:
    """The 32 bytes of an Ed25519 public key, of a file that holds them as hex, raw or PEM."""
    fix = "give an Ed25519 public key: PEM, or its 32 bytes as hex"
    try:
        data = path.read_bytes()[:4096]
    except OSError as error:
        raise ValueError(f"--public-key {path}: {error.strerror}; {fix}") from None
    if len(data) == KEY_BYTES:
        return data
    if data.startswith(b"-----BEGIN PUBLIC KEY-----"):
        body = b"".join(line for line in data.splitlines() if not line.startswith(b"-----"))
        raw = base64.b64decode(body)
        if len(raw) == KEY_BYTES + len(PREFIX) and raw.startswith(PREFIX):
            return raw[len(PREFIX) :]
    try:
        found = bytes.fromhex(data.decode().strip())
    except ValueError:
        found = b""
    if len(found) != KEY_BYTES:
        raise ValueError(f"--public-key {path} is no such key; {fix}")
    return found


PREFIX = bytes.fromhex("302a300506032b6570032100")
"""Of an Ed25519 public key as SubjectPublicKeyInfo (RFC 8410)."""
