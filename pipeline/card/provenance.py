"""The 22 fields of the Data Provenance Standards (Data & Trust Alliance, version 1.0.0) for the version."""

from __future__ import annotations

from typing import Any

from pipeline.card import wording
from pipeline.card.settings import About
from pipeline.card.wording import UNSTATED, Card

STANDARD = "Data & Trust Alliance Data Provenance Standards 1.0.0"


def document(card: Card, about: About) -> dict[str, Any]:
    """What the corpus knows; the rest as the user states it, or "not stated"."""
    return {"source": source(card, about), "provenance": provenance(card), "use": use(card, about)}


def source(card: Card, about: About) -> dict[str, Any]:
    return {
        "standards_version_used": STANDARD,
        "dataset_title": card["title"],
        "unique_metadata_identifier": f"version {card['version']}, {card['artifacts']['decide']}",
        "metadata_location": about.url or UNSTATED,
        "dataset_issuer": about.issuer or UNSTATED,
        "description": about.description
        or f"{wording.kept(card):,} licensed images with captions, of {wording.delivered(card):,} delivered",
    }


def provenance(card: Card) -> dict[str, Any]:
    deliveries, before = card["deliveries"], card["before"]
    providers = sorted({one["provider"] for one in deliveries})
    created = sorted(one["created_at"] for one in deliveries)
    return {
        "source_metadata": [
            {name: one[name] for name in ("provider", "delivery_id", "sequence", "sha256")}
            for one in deliveries
        ],
        "source_if_different_from_issuer": providers,
        "data_origin_geography": wording.listed(
            wording.values(card, "representation.contributor_country"), "country", most=10
        ),
        "dataset_issue_date": card["as_of"],
        "date_of_previously_issued_version": before["as_of"] if before else UNSTATED,
        "range_of_dates_for_data_generation": f"delivered {created[0]} to {created[-1]}"
        if created
        else UNSTATED,
        "method": "licensed delivery; made by AI, as stated: "
        + wording.listed(wording.values(card, "people.ai_generated"), "ai_generated"),
        "data_format": "images in tar (WebDataset), catalog in Parquet",
    }


def use(card: Card, about: About) -> dict[str, Any]:
    kinds = {row["kind"]: row["assets"] for row in wording.values(card, "rights.kinds")}
    return {
        "confidentiality_classification": about.confidentiality or UNSTATED,
        "consent_documentation_location": about.consent or UNSTATED,
        "privacy_enhancing_technologies_applied": "personal data by form is looked for in captions; found in "
        f"{wording.number(wording.values(card, 'safety.personal')['any'])} kept captions; counts from 1 to 9 "
        "withheld here",
        "data_processing_geography": about.processing_geography or UNSTATED,
        "data_storage_geography": about.storage_geography or UNSTATED,
        "license_to_use": [
            {name: row[name] for name in ("license", "expression", "covers", "until", "assets")}
            for row in wording.values(card, "rights.licenses")
        ],
        "intended_data_use": about.use_cases or ", ".join(card["purpose"]["uses"]),
        "proprietary_data_presence": {
            "contract": kinds.get("contract", 0),
            "public_licence": kinds.get("spdx", 0),
            "public_domain": kinds.get("public_domain", 0),
        },
    }
