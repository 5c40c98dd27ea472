"""The ids of assets: the provider's own name where it can be one, else one that is derived from it.

The surprising rule: a name always gives the same id, so that a correction or a revocation in the provider's
words finds the asset again. The name itself is kept under ``extra.provider_id``.
"""

from __future__ import annotations

import base64
import hashlib
import re

from infra.guarded import nfc

ASSET_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")


def asset_id(name: str) -> str:
    """The name, or the id of a name that cannot be one.

    >>> asset_id("IMG_0001"), asset_id("IMG 0001.final")
    ('IMG_0001', 'v4j7rttkmyljkomllcptwudlrh')
    """
    return name if ASSET_ID.fullmatch(name) else derived_id(name)


def derived_id(name: str) -> str:
    """26 characters of base32: 130 bits of the name's sha256."""
    digest = hashlib.sha256(nfc.normal(name).encode()).digest()
    return base64.b32encode(digest).decode().lower()[:26]


def check_uid(uid: str) -> None:
    """ValueError for what names no asset as a command line does."""
    if ":" not in uid:
        raise ValueError(f"{uid!r} names no asset; write it as PROVIDER:ASSET_ID")
