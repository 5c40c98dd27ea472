"""Debian's openclipart as a delivery: 7,458 drawings with title, keywords, author and licence, as they are.

Two packages: ``openclipart-svg`` has the drawings, whose metadata are the records, and ``openclipart-png``
their pictures, at the same path. The surprising rule: a drawing without a licence is delivered too, without
one, and the door refuses it. 61 leave their licence blank, and 6 declare entities, so that nothing is read of
them; 2 are under the GPL, which grants nothing here. The 663 links among the drawings are second places of
one drawing, and no records.

What the records say of rights: the drawings are of 2005 and before, so no model made them. Whether one shows
a real person is unknown where its path or its keywords say ``people`` (401, Einstein and Bach among them); to
make pictures from these takes a release, and nobody has one.
"""

from __future__ import annotations

import base64
import hashlib
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any, Literal, get_args

from infra.guarded import svg
from infra.guarded.refused import Refused
from infra.storage import Store
from pipeline.contract import Delivery, License, Use
from pipeline.deliveries.titles import caption, told
from pipeline.deliveries.writer import Document, Heading, write_delivery

PROVIDER = "openclipart"
ROOT = Path("/usr/share/openclipart")
"""Where Debian's packages lie; it holds ``svg`` and ``png``."""
CREATED = datetime(2020, 7, 6, 17, 42, 53, tzinfo=UTC)
"""Of version 1:0.18+dfsg-19, the newest; fixed, so that the delivery's bytes are."""
SHARD_SAMPLES = 256

_COMMON: dict[str, Any] = {
    "schema": "license/1.0",
    "license_revision": 0,
    "licensee": "everybody",
    "editorial_only": False,
    "territory": {"mode": "worldwide"},
    # Debian's first upload of 0.18; no drawing says itself when it was released.
    "valid_from": "2005-11-01T01:16:07Z",
    "valid_until": None,
    "after_term": "perpetual",
    "revocation": {"revocable": False, "scope": "future_use"},
}
DEDICATED = License.model_validate(
    {
        **_COMMON,
        "license_id": "openclipart-public-domain",
        "kind": "public_domain",
        # Creative Commons' dedication: its text is what Debian prints, both addresses below are its names.
        "expression": "CC-PDDC",
        "tier": "public_domain",
        "licensor": {"name": "Authors of the Open Clip Art Library"},
        "uses": dict.fromkeys(get_args(Use), "allow"),
        "attribution_required": False,
    }
)
COPYLEFT = License.model_validate(
    {
        **_COMMON,
        "license_id": "openclipart-gpl",
        "kind": "spdx",
        # The address names version 2.0, and nothing in the files says "or later".
        "expression": "GPL-2.0-only",
        "tier": "other",
        "licensor": {"name": "denco"},
        # Nobody has said what the GPL grants a model: whether its weights, or a picture it draws, are works
        # based on the program. What is not granted is denied.
        "uses": dict.fromkeys(get_args(Use), "deny"),
        "attribution_required": True,
        "attribution_template": "Image: {contributor}, GPL 2.0",
    }
)
LICENSES = (DEDICATED, COPYLEFT)
LICENSE_OF = {
    "http://web.resource.org/cc/PublicDomain": DEDICATED.license_id,
    "http://creativecommons.org/licenses/publicdomain/": DEDICATED.license_id,
    "http://creativecommons.org/licenses/GPL/2.0/": COPYLEFT.license_id,
}
"""Every address in the packages: 7,387, 2 and 2 drawings. Any other is no licence that we know."""

_PNG = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    path: str
    """Of the drawing, below ``svg``."""
    svg: Path
    png: Path

    @property
    def asset_id(self) -> str:
        """130 bits of the path's hash: a path may have signs that no id has."""
        digest = hashlib.sha256(self.path.encode()).digest()
        return base64.b32encode(digest).decode().lower()[:26]


def entries(root: Path) -> list[Entry]:
    """Every drawing under ``root/svg`` and its picture under ``root/png``, in ascending order of asset id."""
    drawings, pictures = root / "svg", (root / "png").resolve()
    files = (file for file in drawings.rglob("*.svg") if file.is_file() and not file.is_symlink())
    found = [_entry(file, file.relative_to(drawings), pictures) for file in files]
    if not found:
        fix = "apt-get install openclipart-svg openclipart-png, or give the folder that holds svg and png"
        raise ValueError(f"no drawing under {drawings}; {fix}")
    return sorted(found, key=lambda entry: entry.asset_id)


def _entry(drawing: Path, path: Path, pictures: Path) -> Entry:
    """The picture may be a link to that of another drawing, and to nothing else."""
    png = (pictures / path.with_suffix(".png")).resolve()
    if not (png.is_relative_to(pictures) and png.is_file()):
        raise ValueError(f"{path}: its picture {png} is no file in {pictures}; install openclipart-png anew")
    return Entry(path=path.as_posix(), svg=drawing, png=png)


def deliver(
    store: Store,
    root: Path,
    *,
    sequence: int = 0,
    kind: Literal["full", "delta", "correction"] = "full",
) -> Delivery:
    """Write every drawing as delivery number ``sequence``; the same packages are the same bytes."""
    heading = Heading(
        provider=PROVIDER,
        delivery_id=f"{PROVIDER}-{sequence:06d}",
        sequence=sequence,
        kind=kind,
        created_at=CREATED,
    )
    samples = (sample(entry, heading.delivery_id) for entry in entries(root))
    return write_delivery(store, heading, licenses=LICENSES, samples=samples, shard_samples=SHARD_SAMPLES)


def sample(entry: Entry, delivery_id: str) -> tuple[Document, bytes]:
    """The record, unchecked, and the picture."""
    said, refused = _metadata(entry)
    author, licenses, picture = _author(said), licenses_of(said), entry.png.read_bytes()
    # Who is nobody is nobody else: one id for them all would let one author take back what others drew.
    contributor = {"id": author, "display_name": author} if author else {"id": f"unknown-{entry.asset_id}"}
    document = {
        "schema": "asset/1.0",
        "provider": PROVIDER,
        "asset_id": entry.asset_id,
        "asset_revision": 0,
        "delivery_id": delivery_id,
        "image_type": "vector",
        **_words(entry, said),
        "is_editorial": False,
        "is_adult": False,
        "ai_generated": "no",
        **_people(entry, said),
        "contributor": contributor,
        **_credits(said, author),
        **({"license_ids": licenses} if licenses else {}),
        "file": _file(entry, picture),
        "status": "active",
        "extra": {"provider_id": entry.path, **_given("date", said.dates), **_given("metadata", refused)},
    }
    return document, picture


def _metadata(entry: Entry) -> tuple[svg.Metadata, list[str]]:
    """What the drawing says; nothing, and why, where that cannot be read."""
    try:
        with entry.svg.open("rb") as drawing:
            return svg.read(drawing, file=entry.path), []
    except Refused as refused:
        return svg.Metadata(), [f"{refused.rule}: {refused.detail}"]


def licenses_of(said: svg.Metadata) -> list[str]:
    """By our own ids; none where one address is unknown, since it may take back what another gives."""
    found = [LICENSE_OF.get(address) for address in said.licenses]
    return list(dict.fromkeys(name for name in found if name)) if all(found) else []


def _words(entry: Entry, said: svg.Metadata) -> dict[str, Any]:
    place = PurePosixPath(entry.path)
    title = next(iter(told(said.titles)), "")
    author = _author(said).casefold()
    return {
        **_given("title", [title]),
        "description": caption(place.stem, title, " ".join(said.descriptions)),
        "keywords": [word for word in told(said.keywords) if word.casefold() != author],
        "categories": [{"name": folder} for folder in told(place.parts[:-1])],
    }


def _people(entry: Entry, said: svg.Metadata) -> dict[str, Any]:
    """A drawing shows nobody in particular, unless its place or its keywords say that it shows people."""
    people = "people" in " ".join([entry.path, *said.keywords]).casefold()
    return {
        "has_people": "unknown" if people else "no",
        "releases": {"model": "unknown" if people else "not_applicable", "property": "not_applicable"},
    }


def _author(said: svg.Metadata) -> str:
    """Blank where nobody is named: 61 leave it blank, some say "Anonymous" or ``HASH(0x89c79d4)``."""
    return next(iter(told(said.creators)), "")


def _credits(said: svg.Metadata, author: str) -> dict[str, str]:
    """Notices are carried, and grant and deny nothing: ten say no more than "CC", three "copyleft"."""
    notices = [notice for notice in told(said.rights) if notice != author]
    return {**_given("credit_line", [author]), **_given("copyright_notice", notices)}


def _given(name: str, values: Iterable[str]) -> dict[str, str]:
    """A field, left out where there is no value: null and blank are none in the contract."""
    text = "; ".join(filter(None, values))
    return {name: text} if text else {}


def _file(entry: Entry, picture: bytes) -> dict[str, Any]:
    """Sides from the PNG's own header: 14 have 168 to 623 MP, which our decoder refuses, as the door will."""
    if not (picture.startswith(_PNG) and len(picture) >= 24):
        raise ValueError(
            f"{entry.png} is no PNG: it begins with {picture[:24]!r}; install openclipart-png anew"
        )
    width, height = struct.unpack_from(">II", picture, 16)
    return {
        "sha256": hashlib.sha256(picture).hexdigest(),
        "bytes": len(picture),
        "mime": "image/png",
        "width": width,
        "height": height,
    }
