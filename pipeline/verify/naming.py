"""Whom a name is of: uids, keys of members, and what stands around a name in a text."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from pipeline.verify.needles import Needle

Digests = NDArray[np.uint64]
NAME = re.compile(rb"[A-Za-z0-9_-]")
WORD = re.compile(rb"[A-Za-z0-9\x80-\xff]")
TOKEN = re.compile(rb"[A-Za-z0-9_-]*")
LONGEST_NAME = 128
QUOTES = frozenset((b"", b'"', b"'", b"/", b".", b"_", b"\0"))
"""What stands around a short number that is a name."""


def uid_of_member(name: str) -> str:
    """The uid that PROVIDER_ASSET.ext tells of; empty if it tells of none.

    >>> uid_of_member("a/acme_a1.jpg")
    'acme:a1'
    """
    key = name.rpartition("/")[2].partition(".")[0]
    provider, split, asset = key.partition("_")
    return f"{provider}:{asset}" if split else ""


def uid_of_record(data: bytes) -> str:
    """Whom the JSON beside a picture is about; empty if it does not say."""
    try:
        record = json.loads(data)
    except (ValueError, RecursionError):
        return ""
    if not isinstance(record, dict):
        return ""
    if isinstance(record.get("uid"), str):
        return str(record["uid"])
    provider, asset = record.get("provider"), record.get("asset_id")
    return f"{provider}:{asset}" if isinstance(provider, str) and isinstance(asset, str) else ""


def digest(uid: str) -> int:
    return int.from_bytes(hashlib.sha256(uid.encode("utf-8", "surrogatepass")).digest()[:8], "little")


def digests(uids: Iterable[str]) -> Digests:
    """Sorted; of uids, and of what follows their provider: a longer id may stand without it too."""
    names = {name for uid in uids for name in (uid, uid.partition(":")[2])}
    return np.unique(np.array([digest(name) for name in names], np.uint64))


def is_among(known: Digests, uid: str) -> bool:
    value = digest(uid)
    at = int(np.searchsorted(known, np.uint64(value)))
    return at < len(known) and int(known[at]) == value


def stands(needle: Needle, data: memoryview, offset: int, limits: tuple[int, int], others: Digests) -> bool:
    """Whether what was found at ``offset`` is a whole name, or whole words, between the limits.

    ``others`` are the uids that stay: ACME:A1-thumb is a name of ACME:A1, unless an asset has that very name.
    """
    start, end = limits
    stop = offset + len(needle.data)
    if offset < start or stop > end:
        return False
    before = bytes(data[max(start, offset - 1) : offset])
    after = bytes(data[stop : min(end, stop + LONGEST_NAME)])
    if needle.edges == "text":
        return _is_whole_text(needle.data, before, after[:1])
    return not needle.edges or _is_whole_name(needle, before, after, others)


def _is_whole_text(text: bytes, before: bytes, after: bytes) -> bool:
    begins_amid = WORD.match(text[:1]) and WORD.match(before)
    ends_amid = WORD.match(text[-1:]) and WORD.match(after)
    return not begins_amid and not ends_amid


def _is_whole_name(needle: Needle, before: bytes, after: bytes, others: Digests) -> bool:
    if NAME.match(before) or (needle.edges != "id" and before == b":"):
        return False
    if needle.edges == "digits" and not (before in QUOTES and after[:1] in QUOTES):
        return False
    rest = TOKEN.match(after)
    tail = rest[0] if rest else b""
    if not tail:
        return True
    if tail[:1] not in b"_-":
        return False
    # In a column of texts another one may begin where this one ends: any longer name counts, not the longest.
    for stop in range(len(tail), 0, -1):
        name = (needle.data + tail[:stop]).decode("utf-8", "replace")
        if is_among(others, name) or is_among(others, name.replace("_", ":", 1)):
            return False
    return True
