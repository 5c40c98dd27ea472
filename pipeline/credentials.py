"""Passwords, tokens and signatures in what a provider sends: refused, or left out of what the corpus keeps.

A field that means something to us must not hold any. Free facts, which mean nothing to us, are masked. The
surprising rule: one address may be signed, that of an image which is still to be fetched. It is followed as
it is, and the record that is kept of the asset has it without its query.
"""

from __future__ import annotations

from typing import Any

from infra.redaction import credential_places, disclosed, holds_credential, masked
from pipeline.asset import Asset
from pipeline.faults import cut

FREE = "extra"


def told(document: Any) -> str:
    """The first field of a record that holds a credential and must not, as a fault says it; else empty.

    >>> told({"credit_line": "https://user:password@host.example/"})
    'credit_line: it holds a credential, which would be kept for all to read; send it without'
    >>> told({"file": {"uri": "https://host.example/a.jpg?signature=fe5f"}})
    ''
    """
    found = credential_places(_searched(document))
    if not found:
        return ""
    field = cut(ascii(found[0])[1:-1])
    return f"{field}: it holds a credential, which would be kept for all to read; send it without"


def kept(asset: Asset) -> Asset:
    """The asset as the corpus keeps it."""
    uri = asset.file.uri and _bare(asset.file.uri)
    file = asset.file.model_copy(update={"uri": uri})
    return asset.model_copy(update={"file": file, FREE: disclosed(asset.extra)})


def followed(uri: str) -> str:
    """An address as a row keeps it: signed, if need be; masked where a name and a password refuse it."""
    return masked(uri) if holds_credential(_bare(uri)) else uri


def _searched(document: Any) -> Any:
    """Without these, and without the files that a delivery lists: 300,000 paths and hashes, of known form."""
    if not isinstance(document, dict):
        return document
    rest = {name: value for name, value in document.items() if name not in {FREE, "files"}}
    file = rest.get("file")
    if isinstance(file, dict) and isinstance(file.get("uri"), str):
        rest["file"] = {**file, "uri": _bare(file["uri"])}
    return rest


def _bare(uri: str) -> str:
    return uri.partition("?")[0]
