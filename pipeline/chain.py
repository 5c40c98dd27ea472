"""A log of files, each of which names the sha256 of the one before it: nobody rewrites or drops one unseen.

``FOLDER/NNNNNN.json``, from 1, is one line: an object in canonical JSON (sorted keys, ``,`` and ``:`` without
spaces, UTF-8) and a line break. ``prev`` is the sha256 of all bytes of the file before, 64 zeros in the
first. The surprising rule: an entry is a file of its own, published by conditional create, since an object
store appends to none; so of two writers one fails. `cat FOLDER/*.json` is the log as lines.

A chain alone does not show that its newest entries were cut off: keep the last one's sha256 elsewhere.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from infra.corpus import LeaseHeld, lease_name, newest_lease, this_process
from infra.storage import Store
from pipeline.sealing import Seal, is_signed_by

FIRST = "0" * 64
"""What the first entry names in place of an entry before it."""
UNSEALED = Seal()


class Broken(ValueError):
    """A chain is not as it was written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    number: int
    name: str
    """In the store."""
    body: Mapping[str, Any]
    sha256: str
    """Of the file's bytes: what the next one names."""


def append(store: Store, folder: str, body: Mapping[str, Any], *, seal: Seal = UNSEALED) -> Link:
    """Add an entry; :class:`LeaseHeld` unless this process holds the corpus for writing, or if another was
    faster.
    """
    check_lease(store)
    found = numbers(store, folder)
    prev, number = FIRST, 1
    if found:
        prev, number = hashlib.sha256(store.read(name_of(folder, found[-1]))).hexdigest(), found[-1] + 1
    name = name_of(folder, number)
    data = seal.sealed({**body, "prev": prev})
    # The answer of a store may be lost, and asked again it says that there is such an object: this one.
    if not store.create(name, data) and store.read(name) != data:
        raise LeaseHeld(f"{store.where(name)} exists: another writer was faster; run again")
    return _link(number, name, data)


def check_lease(store: Store) -> None:
    number = newest_lease(store)
    holder = json.loads(store.read(lease_name(number))) if number else {"expires": 0.0}
    mine = this_process()
    if holder["expires"] < time.time() or any(holder[name] != mine[name] for name in mine):
        raise LeaseHeld(f"{store.uri} is not held for writing by this process; write to it within its lease")


def numbers(store: Store, folder: str) -> list[int]:
    """Of the entries that are there, in order."""
    return sorted(
        int(PurePosixPath(name).stem)
        for name in store.names(f"{folder}/")
        if PurePosixPath(name).stem.isdigit()
    )


def name_of(folder: str, number: int) -> str:
    return f"{folder}/{number:06d}.json"


def links(store: Store, folder: str, *, newest_first: bool = False) -> Iterator[Link]:
    """The entries as they are, unchecked; each is read as it is asked for."""
    found = numbers(store, folder)
    for number in reversed(found) if newest_first else found:
        name = name_of(folder, number)
        yield _link(number, name, store.read(name))


def check(store: Store, folder: str, *, keys: Collection[bytes] = ()) -> int:
    """How many entries there are; :class:`Broken`, naming the first that is wrong.

    With ``keys``, raw Ed25519 public keys, every signature must be by one of them, and the newest entry must
    have one: it speaks for all before it.
    """
    prev, link, number = FIRST, None, 0
    for number, link in enumerate(links(store, folder), start=1):
        where = store.where(link.name)
        if link.number != number:
            raise Broken(f"{store.where(name_of(folder, number))} is gone; restore it from a copy")
        if link.body.get("prev") != prev:
            raise Broken(
                f"{where} says that the entry before it has sha256 {link.body.get('prev')!s:.16}…, and that "
                f"has {prev[:16]}…: one of the two was changed; restore both from a copy"
            )
        if keys and "signature" in link.body and not is_signed_by(link.body, keys):
            raise Broken(f"{where} is not signed by a key that is given; it was changed, or give its key too")
        prev = link.sha256
    if keys and link is not None and "signature" not in link.body:
        raise Broken(f"{store.where(link.name)}, the newest entry, is not signed; write with a signing key")
    return number


def _link(number: int, name: str, data: bytes) -> Link:
    try:
        body = json.loads(data)
    except ValueError:
        raise Broken(f"{name} is no JSON; restore it from a copy") from None
    if not isinstance(body, dict):
        raise Broken(f"{name} is no object; restore it from a copy")
    return Link(number=number, name=name, body=body, sha256=hashlib.sha256(data).hexdigest())
