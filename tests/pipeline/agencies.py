"""Deliveries in the layouts of agencies, made by hand as their documents say."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from PIL import Image

from infra.storage import Store
from pipeline import contract

from . import metadata

Row = dict[str, Any]


def encoded(color: int = 0, kind: str = "JPEG", side: int = 4) -> bytes:
    sink = io.BytesIO()
    Image.new("RGB", (side, 3), (100 * color, 0, 7)).save(sink, kind)
    return sink.getvalue()


@dataclass(frozen=True, slots=True, kw_only=True)
class Parcel:
    """A delivery that is not written yet."""

    form: str
    files: Mapping[str, bytes]
    roles: Mapping[str, str] = field(default_factory=dict)
    """Of files whose extension does not tell."""
    every_asset: Mapping[str, Any] = field(default_factory=dict)

    def role(self, path: str) -> str:
        extension = path.rpartition(".")[2].lower()
        known = {"jpg": "image", "png": "image", "webp": "image", "tar": "shard"}
        return self.roles.get(path, known.get(extension, "manifest"))

    def without(self, *names: str) -> Parcel:
        """The delivery that does not state a field of every asset; dots lead into objects."""
        return replace(
            self, every_asset=_without(dict(self.every_asset), {tuple(n.split(".")) for n in names})
        )

    def write(self, store: Store, **changes: Any) -> None:
        """Every file, listed truly; ``changes`` are of ``delivery.json``."""
        everything = {"licenses.jsonl": json.dumps(contract.template()["license"]).encode(), **self.files}
        listed = []
        for path, data in everything.items():
            store.write(path, data)
            role = "licenses" if path == "licenses.jsonl" else self.role(path)
            facts = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
            listed.append({"path": path, "role": role, **facts})
        template = {**contract.template()["delivery"], "form": self.form, "counts": {}, "files": listed}
        stated = {"every_asset": dict(self.every_asset)} if self.every_asset else {}
        store.write("delivery.json", json.dumps({**template, **stated, **changes}).encode())


def _without(tree: dict[str, Any], paths: set[tuple[str, ...]]) -> dict[str, Any]:
    kept = {name: value for name, value in tree.items() if (name,) not in paths}
    inner = {path[0]: {p[1:] for p in paths if p[:1] == path[:1]} for path in paths if len(path) > 1}
    return {**kept, **{name: _without(tree[name], below) for name, below in inner.items()}}


def table(*rows: Row) -> bytes:
    """A CSV as a spreadsheet writes it."""
    sink = io.StringIO(newline="")
    writer = csv.DictWriter(sink, list(dict.fromkeys(name for row in rows for name in row)))
    writer.writeheader()
    writer.writerows(rows)
    return sink.getvalue().encode()


LICENSED: Row = {"license_ids": ["acme-data-2026"]}
PEOPLE: Row = {
    "has_people": "no",
    "releases": {"model": "not_applicable", "property": "not_applicable"},
}

DATASET_ROW: Row = {
    "id": "101",
    "description": "A red bicycle leans against a blue wall",
    "keywords": "bicycle, red,wall",
    "image_type": "photo",
    "is_creative": "True",
    "mature_flag": "False",
    "date_submitted": "2019-06-04T15:56:44-04:00",
    "date_captured": "2019-05-30",
    "asset_location": "Utrecht, Netherlands",
    "popularity_score": "0.75",
    "german_description": "Ein rotes Fahrrad",
    "spanish_description": "",
    "french_description": "",
    "korean_description": "빨간 자전거",
    "japanese_description": "",
    "labels": '["Bicycle", "Wheel"]',
    "moderation_labels": '["Alcohol: 0.25"]',
    "has_model_release": "False",
    "has_people": "False",
    "primary_category": "Transportation",
}


def file_row(asset_id: str, image: bytes, **changes: Any) -> Row:
    row = {"asset_id": asset_id, "asset_file_size": "small", "asset_file_extension": "jpg"}
    return {**row, "asset_file_size_in_bytes": len(image), **changes}


def shutterstock_dataset() -> Parcel:
    images = {"images/101.jpg": encoded(1), "images/shutterstock_102.jpg": encoded(2)}
    second = {**DATASET_ROW, "id": "102", "is_creative": "False", "has_people": "True"}
    files = [file_row(name, image) for name, image in zip(("101", "102"), images.values(), strict=True)]
    tables = {"asset_metadata.csv": table(DATASET_ROW, second), "file_metadata.csv": table(*files)}
    stated = {
        **LICENSED,
        "is_editorial": False,
        "ai_generated": "no",
        "releases": {"property": "not_applicable"},
        "contributor": {"id": "shutterstock"},
    }
    return Parcel(form="shutterstock_dataset", files={**images, **tables}, every_asset=stated)


API_OBJECT: Row = {
    "id": "201",
    "media_type": "image",
    "contributor": {"id": "c-9"},
    "description": "A red bicycle leans against a blue wall",
    "keywords": ["bicycle", "red, dark"],
    "categories": [{"id": "26", "name": "Transportation"}],
    "aspect": 1.5,
    "image_type": "photo",
    "is_adult": False,
    "is_editorial": False,
    "is_illustration": False,
    "has_model_release": True,
    "has_property_release": False,
    "model_releases": [{"id": "m-1"}],
    "models": [{"id": "p-1"}],
    "releases": ["m-2"],
    "added_date": "2019-06-04",
    "url": "https://www.shutterstock.com/image-photo/201?token=secret",
    "affiliate_url": "https://shutterstock.7eer.net/c/1?u=x",
    "asset_collection": "Essentials",
    "assets": {"huge_jpg": {"width": 6000, "height": 4000, "file_size": 9_000_000, "is_licensable": True}},
}
EDITORIAL_OBJECT: Row = {
    "id": "9804979n",
    "title": "Tournament in Hong Kong",
    "caption": "",
    "description": "Members of a team prepare",
    "byline": "A. PHOTOGRAPHER/AGENCY/Shutterstock",
    "supplier_code": "AGY",
    "keywords": [],
    "date_taken": "2018-08-24",
    "categories": [{"name": "Sports"}],
    "updated_time": "2019-07-15T20:04:44-04:00",
    "updates": ["addition"],
    "commercial_status": {"status": "restricted", "reason": "event"},
    "rights": {"countries": "CAN,+DEU,-*"},
    "special_instructions": "Not for use in games, or on covers",
}


def shutterstock_api() -> Parcel:
    page = {"data": [API_OBJECT], "page": 1, "per_page": 1, "total_count": 1}
    feed = {"data": [{"id": "7", "updated_time": "2019-06-04T15:56:44-04:00", "updates": ["deletion"]}]}
    files = {
        "images/201.jpg": encoded(1),
        "images/shutterstock_9804979n.jpg": encoded(2),
        "pages/0001.json": json.dumps(page).encode(),
        "pages/editorial.jsonl": json.dumps(EDITORIAL_OBJECT).encode(),
        "updated/0001.json": json.dumps(feed).encode(),
    }
    stated = {
        **LICENSED,
        "image_type": "photo",
        "is_adult": False,
        "ai_generated": "no",
        "has_people": "yes",
        "releases": {"model": "unlimited", "property": "none"},
        "contributor": {"id": "editorial-desk"},
    }
    roles = {"updated/0001.json": "feed"}
    return Parcel(form="shutterstock_api", files=files, roles=roles, every_asset=stated)


CONTRIBUTOR_ROW: Row = {
    "Filename": "IMG_0301.jpg",
    "Description": "A red bicycle leans against a blue wall",
    "Keywords": "bicycle,red,wall",
    "Categories": "Transportation,Objects",
    "Editorial": "no",
    "Mature content": "no",
    "illustration": "no",
}
UPLOADED: Row = {
    **LICENSED,
    **PEOPLE,
    "image_type": "photo",
    "ai_generated": "no",
    "contributor": {"id": "c-77", "display_name": "J. Doe"},
}
JUDGED: Row = {**UPLOADED, "is_editorial": False, "is_adult": False}


def shutterstock_contributor() -> Parcel:
    second = {**CONTRIBUTOR_ROW, "Filename": "my drawing.png", "Editorial": "YES", "illustration": "Yes"}
    files = {
        "images/IMG_0301.jpg": encoded(1),
        "images/my drawing.png": encoded(2, "PNG"),
        "upload.csv": table(CONTRIBUTOR_ROW, second),
    }
    return Parcel(form="shutterstock_contributor", files=files, every_asset=UPLOADED)


ADOBE_ROW: Row = {
    "Filename": "IMG_0401.jpg",
    "Title": "A red bicycle leans against a blue wall",
    "Keywords": "bicycle, red, wall",
    "Category": "20",
    "Releases": "Jane Roe, Blue House",
}


def adobe_stock() -> Parcel:
    files = {
        "images/IMG_0401.jpg": encoded(1),
        "images/IMG_0402.jpg": encoded(2),
        "JohnDoe_7_17_17.csv": table(ADOBE_ROW, {**ADOBE_ROW, "Filename": "IMG_0402.jpg", "Releases": ""}),
    }
    return Parcel(form="adobe_stock", files=files, every_asset=JUDGED)


GETTY_OBJECT: Row = {
    "id": "501",
    "allowed_use": {
        "how_can_i_use_it": "Available for all permitted uses under our |License Terms|.",
        "release_info": "No release required",
        "usage_restrictions": [],
    },
    "artist": "J. Doe",
    "asset_family": "creative",
    "call_for_image": False,
    "caption": "A red bicycle leans against a blue wall",
    "collection_code": "FKF",
    "collection_id": 348,
    "collection_name": "Moment",
    "copyright": "J. Doe",
    "credit_line": "Getty Images/J. Doe",
    "date_created": "2017-09-12T00:00:00-07:00",
    "display_sizes": [{"name": "comp", "uri": "https://media.gettyimages.com/501?h=signed"}],
    "graphical_style": "photography",
    "keywords": [{"keyword_id": "60026", "text": "bicycle", "type": "Unknown", "relevance": 100}],
    "license_model": "royaltyfree",
    "max_dimensions": {"height": 4000, "width": 6000},
    "people": [],
    "title": "Red bicycle",
}


def getty_api() -> Parcel:
    second = {
        **GETTY_OBJECT,
        "id": "502",
        "asset_family": "editorial",
        "people": ["Jane Roe"],
        "call_for_image": True,
        "allowed_use": {
            "release_info": "Model released",
            "usage_restrictions": ["Not for use on covers, or in games."],
        },
    }
    files = {
        "images/501.jpg": encoded(1),
        "images/gettyimages-502.jpg": encoded(2),
        "images.json": json.dumps({"result_count": 2, "images": [GETTY_OBJECT, second]}).encode(),
    }
    stated = {**LICENSED, **PEOPLE, "is_adult": False, "ai_generated": "no", "contributor": {"id": "getty"}}
    return Parcel(form="getty_api", files=files, every_asset=stated)


def folder() -> Parcel:
    """Images with what is known of them beside them, or inside, or only stated."""
    sidecar = {"description": "A red bicycle", "keywords": ["bicycle", "red"], "is_adult": False}
    files = {
        "images/a.jpg": encoded(1),
        "images/a.json": json.dumps(sidecar).encode(),
        "more/b.png": encoded(2, "PNG"),
        "more/b.xmp": metadata.xmp("<dc:description>A blue wall</dc:description>"),
        "more/c.jpg": metadata.jpeg_xmp(metadata.xmp("<dc:title>A wall</dc:title>")),
    }
    roles = {"images/a.json": "sidecar", "more/b.xmp": "sidecar"}
    return Parcel(form="folder", files=files, roles=roles, every_asset={**JUDGED, "description": "stated"})


BY_HAND = {
    make.__name__: make
    for make in (
        shutterstock_dataset,
        shutterstock_api,
        shutterstock_contributor,
        adobe_stock,
        getty_api,
    )
}
"""The parcel of each form that needs no tool to be made."""
