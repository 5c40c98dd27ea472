"""A filled, valid example of each record of the contract, to copy from."""

from __future__ import annotations

from typing import Any

ASSET: dict[str, Any] = {
    "schema": "asset/1.0",
    "provider": "acme",
    "asset_id": "1234567",
    "asset_revision": 0,
    "image_type": "photo",
    "title": "Market at noon",
    "description": "A red bicycle leans against a blue wall",
    "descriptions": [
        {"lang": "de", "text": "Ein rotes Fahrrad an einer blauen Wand", "origin": "translated"}
    ],
    "keywords": ["bicycle", "red", "wall"],
    "categories": [{"name": "Transportation"}],
    "is_editorial": False,
    "is_adult": False,
    "ai_generated": "no",
    "has_people": "no",
    "has_property": "no",
    "releases": {"model": "not_applicable", "property": "not_applicable"},
    "location": {"country": "NL"},
    "date_created": "2024-05-01T12:00:00Z",
    "contributor": {"id": "c-77", "display_name": "J. Doe"},
    "license_ids": ["acme-data-2026"],
    "file": {
        "sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "bytes": 412_345,
        "mime": "image/jpeg",
        "width": 1500,
        "height": 1000,
    },
    "status": "active",
}
LICENSE: dict[str, Any] = {
    "schema": "license/1.0",
    "license_id": "acme-data-2026",
    "license_revision": 0,
    "kind": "contract",
    "expression": "LicenseRef-acme-data-2026",
    "contract_id": "ACME-2026-001",
    "tier": "data",
    "licensor": {"name": "Acme Images"},
    "licensee": "Example Lab",
    "covers": ["image", "text"],
    "uses": {"ml_training": "allow", "generation": "allow", "retrieval_index": "allow"},
    "editorial_only": False,
    "territory": {"mode": "worldwide"},
    "valid_from": "2026-01-01T00:00:00Z",
    "valid_until": "2028-01-01T00:00:00Z",
    "after_term": "delete_data_keep_models",
    "attribution_required": True,
    "attribution_template": "Photo: {contributor}, Acme Images",
    "compensation": {"scheme": "pool_pro_rata", "report_every_days": 180},
    "revocation": {"revocable": True, "scope": "all_copies", "sla_hours": 72},
}
REVOCATION: dict[str, Any] = {
    "schema": "revocation/1.0",
    "revocation_id": "acme-r-000017",
    "provider": "acme",
    "target_type": "asset",
    "targets": ["1234567"],
    "reason": "contributor_opt_out",
    "action": "remove",
    "requested_at": "2026-06-01T00:00:00Z",
    "effective_at": "2026-06-02T00:00:00Z",
}
DELIVERY: dict[str, Any] = {
    "schema": "delivery/1.0",
    "provider": "acme",
    "delivery_id": "acme-000000",
    "sequence": 0,
    "kind": "full",
    "form": "webdataset",
    "created_at": "2026-05-01T00:00:00Z",
    "counts": {"samples": 1},
    "files": [
        {
            "path": "licenses.jsonl",
            "sha256": "60303ae22b998861bce3b28f33eec1be758a213c86c93c076dbe9f558c11c752",
            "bytes": 612,
            "role": "licenses",
        },
        {
            "path": "shards/acme-000000.tar",
            "sha256": "fd61a03af4f77d870fc21e05e7e80678095c92d808cfb3b5c279ee04c74aca13",
            "bytes": 419_840,
            "role": "shard",
            "samples": 1,
        },
    ],
}


EVERY_ASSET: dict[str, Any] = {
    name: ASSET[name]
    for name in (
        "image_type",
        "is_editorial",
        "is_adult",
        "ai_generated",
        "has_people",
        "has_property",
        "releases",
        "contributor",
        "license_ids",
    )
}
"""What a delivery may state of every asset: ``every_asset`` of ``delivery.json``."""


def template() -> dict[str, dict[str, Any]]:
    """One example of each record, by its name in the JSON Schema."""
    return {"delivery": DELIVERY, "asset": ASSET, "license": LICENSE, "revocation": REVOCATION}
