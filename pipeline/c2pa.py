"""What a file's C2PA manifests say of training: the assertions ``training-mining`` of every one of them.

The surprising rule: no signature need be trusted, since what an assertion says can only forbid. But the bytes
must be the signed ones: what was changed since, or cannot be parsed, is unread, and that asks for a person
(CAWG, Training and Data Mining Assertion 1.1; C2PA 2.1 knew the same one under its own label).

The parser is native code of the optional package ``c2pa-python``, fed with bytes that we did not write. It
runs in a process of its own, and where that dies the manifests are unread.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import io
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from infra.guarded import json
from infra.guarded.isolated import Answer, Died, Isolated, Limits
from infra.guarded.refused import Refused

Entries = tuple[tuple[str, str], ...]
"""(entry, use), such as ``("cawg.ai_training", "notAllowed")``."""
Read = Callable[[bytes], Entries | None]
"""The entries of an image's manifests; None where they cannot be read."""

LABEL = ".training-mining"
"""Ends both labels, ``c2pa.`` and ``cawg.``; a version and the number of an instance may follow."""
UNREAD = ("assertion", "unread")
"""In place of entries that are there and could not be read."""
SETTINGS: Mapping[str, Any] = {
    "version": 1,
    # An identity is looked up at its issuer's address.
    "core": {"allowed_network_hosts": [], "decode_identity_assertions": False},
    "verify": {
        "verify_after_reading": True,
        "verify_trust": False,
        "verify_timestamp_trust": False,
        "ocsp_fetch": False,
        "remote_manifest_fetch": False,
    },
}
"""Of the reader. The package takes any word for a setting, so the tests see to it that none of these is
misspelled: by default it fetches whatever address a file names."""
STORE = json.Limits(max_bytes=16 * 1024 * 1024, max_depth=64, max_string=16 * 1024 * 1024)
"""Of one file's manifests as JSON. Those of three edits are 19 KB, with their validation."""


def version() -> str | None:
    """Of the optional package; None where it is not installed. Part of the identity of whatever it reads."""
    try:
        return importlib.metadata.version("c2pa-python")
    except importlib.metadata.PackageNotFoundError:
        return None


def unread(_image: bytes) -> Entries | None:
    """Used where there is no reader of C2PA."""
    return None


def reader() -> Isolated:
    """A process that reads manifests, started with the first image that has any."""
    return Isolated(function=f"{__name__}:read", settings=SETTINGS, limits=Limits())


def entries(image: bytes, reader: Isolated) -> Entries | None:
    """A ``Read`` by that process, where the package is installed."""
    if version() is None:
        return None
    try:
        answer, _ = reader.call(image)
    except Died:
        return None
    return entries_of(answer)


def entries_of(answer: Mapping[str, Any]) -> Entries | None:
    """None for whatever is no answer of :func:`read`."""
    match answer:
        case {"entries": [*pairs]} if all(map(_is_pair, pairs)):
            return tuple((entry, use) for entry, use in pairs)
    return None


def _is_pair(pair: Any) -> bool:
    return isinstance(pair, list) and len(pair) == 2 and all(isinstance(part, str) for part in pair)


def read(image: bytes, settings: Mapping[str, Any]) -> Answer:
    """``{"entries": [[entry, use], …]}``, or null where the manifests cannot be read. Runs in the process."""
    # Not at the top: this loads 23 MB of native code, which only that process needs.
    sdk = importlib.import_module("c2pa")
    try:
        with (
            sdk.Context.from_dict(dict(settings)) as context,
            sdk.Reader(io.BytesIO(image), context=context) as it,
        ):
            store = json.loads(it.json().encode(), file="C2PA", limits=STORE)
    except (sdk.C2paError, Refused):
        return {"entries": None}, []
    found = list(_assertions(store))
    if found and store.get("validation_state") not in ("Valid", "Trusted"):
        return {"entries": [[*UNREAD]]}, []
    return {"entries": [[*pair] for assertion in found for pair in _entries(assertion)]}, []


def _assertions(store: Mapping[str, Any]) -> Iterator[Any]:
    """Of all manifests in the file: the active one, and those of what the picture was made from."""
    for manifest in store["manifests"].values():
        for assertion in manifest.get("assertions", ()):
            if LABEL in assertion["label"]:
                yield assertion.get("data")


def _entries(assertion: Any) -> Iterator[tuple[str, str]]:
    told = assertion.get("entries") if isinstance(assertion, dict) else None
    if not isinstance(told, dict) or not told:
        yield UNREAD
        return
    for entry, what in told.items():
        use = what.get("use") if isinstance(what, dict) else None
        yield entry, use if isinstance(use, str) else "unread"
