"""Passwords, tokens and signatures in what a provider sends: refused, or left out of what the corpus keeps.

A field that means something to us must not hold any. Free facts, which mean nothing to us, are masked. No
address that is kept has a query. The surprising rule: one address may be signed, that of an image which is
still to be fetched. It is followed as it is, and written nowhere: who follows it reads the delivery again.
"""

from __future__ import annotations

from typing import Any

from infra.redaction import bare_uri, credential_places, disclosed, marked
from pipeline.asset import Asset
from pipeline.faults import cut

FREE = "extra"
MAX_FREE = 4096
"""Characters of a free fact, as the contract has it: a mask may be longer than what it stands for."""


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
    document = asset.model_dump(mode="json", by_alias=True)
    told = disclosed(document)
    if asset.extra:
        told[FREE] = {name: text[:MAX_FREE] for name, text in told[FREE].items()}
    if asset.file.uri:
        told["file"]["uri"] = bare_uri(asset.file.uri)
    # Most records hold no address: 0.35 ms, and 0.3 ms more to validate one that did.
    return asset if told == document else Asset.model_validate(told)


def kept_cells(cells: Any, uri: str) -> Any:
    """The cells of a row as the corpus keeps them until they are judged; ``uri`` is that of its image.

    >>> kept_cells({"url": "https://h/a.jpg?sig=7", "page": "https://h/?id=7"}, "https://h/a.jpg?sig=7")
    {'url': 'https://h/a.jpg', 'page': 'https://h/'}
    """
    return marked({name: bare_uri(uri) if uri and cell == uri else cell for name, cell in cells.items()})


def _searched(document: Any) -> Any:
    """Without these, and without the files that a delivery lists: 80,000 paths and hashes, of known form."""
    if not isinstance(document, dict):
        return document
    rest = {name: value for name, value in document.items() if name not in {FREE, "files"}}
    file = rest.get("file")
    if isinstance(file, dict) and isinstance(file.get("uri"), str):
        # What follows the host may sign the address, or name an object: it does no harm, and is kept bare.
        rest["file"] = {**file, "uri": "/".join(file["uri"].split("/")[:3])}
    return rest
