"""The licence record of the input contract: what one contract or public licence grants, and to what part.

The surprising rule: a use that is not named is denied. Import these names from ``pipeline.contract``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, TypeAdapter, WithJsonSchema, model_validator

from pipeline.asset import Record
from pipeline.fields import (
    UNIQUE,
    Grant,
    LicenseId,
    Many,
    Maybe,
    Place,
    Sha256,
    Timestamp,
    fault,
)

Part = Literal["image", "text"]
PARTS: tuple[Part, ...] = ("image", "text")
Use = Literal[
    "ml_training",
    "generation",
    "retrieval_index",
    "retrieval_display",
    "evaluation",
    "derived_captions",
    "redistribution",
    "commercial",
]


class Party(Record):
    id: Maybe[str] = None
    name: str


class Uses(Record):
    """What is granted. A use that is not named is denied."""

    ml_training: Grant
    generation: Grant
    retrieval_index: Maybe[Grant] = None
    retrieval_display: Maybe[Grant] = None
    evaluation: Maybe[Grant] = None
    derived_captions: Maybe[Grant] = None
    redistribution: Maybe[Grant] = None
    commercial: Maybe[Grant] = None

    def allows(self, use: Use) -> bool:
        return bool(getattr(self, use) == "allow")


class Territory(Record):
    mode: Literal["worldwide", "only", "except"]
    countries: Maybe[Many[Place]] = None


class Compensation(Record):
    scheme: Literal["pool_pro_rata", "per_asset", "per_use", "none", "unknown"]
    report_every_days: Maybe[Annotated[int, Field(ge=1)]] = None


class RevocationTerms(Record):
    revocable: bool
    scope: Literal["future_use", "all_copies", "models_too"]
    sla_hours: Maybe[Annotated[int, Field(ge=0)]] = None


_CONTRACT = re.compile(r"LicenseRef-[A-Za-z0-9.-]+")
_TIMESTAMP_OR_NULL = {"anyOf": [TypeAdapter(Timestamp).json_schema(), {"type": "null"}]}


def when(condition: Mapping[str, Any], consequence: Mapping[str, Any]) -> dict[str, Any]:
    """A rule of JSON Schema between the fields of a record."""
    return {"if": {"properties": condition}, "then": consequence}


class License(Record):
    """What one contract or public licence grants, to whom, where and until when."""

    model_config = ConfigDict(
        json_schema_extra={
            "allOf": [
                when(
                    {"kind": {"const": "contract"}},
                    {
                        "required": ["contract_id"],
                        "properties": {"expression": {"pattern": "^LicenseRef-[A-Za-z0-9.-]+$"}},
                    },
                ),
                when(
                    {"territory": {"properties": {"mode": {"enum": ["only", "except"]}}}},
                    {"properties": {"territory": {"required": ["countries"]}}},
                ),
                when({"attribution_required": {"const": True}}, {"required": ["attribution_template"]}),
            ]
        }
    )

    schema_: Literal["license/1.0"] = Field(alias="schema")
    license_id: LicenseId
    license_revision: Annotated[int, Field(ge=0)]
    kind: Literal["contract", "spdx", "public_domain"]
    expression: Annotated[str, Field(min_length=1, max_length=512)]
    """An SPDX expression; contracts are written LicenseRef-NAME."""
    contract_id: Maybe[Annotated[str, Field(max_length=128)]] = None
    contract_sha256: Maybe[Sha256] = None
    """Of the contract's text, which is kept elsewhere."""
    tier: Maybe[
        Literal[
            "data",
            "standard",
            "enhanced",
            "premier",
            "editorial",
            "creative_commons",
            "public_domain",
            "other",
        ]
    ] = None
    """Informational: a consumer tier grants nothing."""
    licensor: Party
    rights_holder: Maybe[Party] = None
    licensee: Annotated[str, Field(min_length=1, max_length=256)]
    covers: Annotated[Many[Part], Field(min_length=1, json_schema_extra={"uniqueItems": True}), UNIQUE] = (
        PARTS
    )
    """Parts of an asset that this record licenses: the picture, the words (caption, keywords), or both."""
    uses: Uses
    models: Maybe[Many[Annotated[str, Field(max_length=128)]]] = None
    """Where given, the grant is limited to these models or programmes."""
    editorial_only: bool
    sensitive_use: Maybe[Grant] = None
    territory: Territory
    valid_from: Timestamp
    valid_until: Annotated[Timestamp | None, WithJsonSchema(_TIMESTAMP_OR_NULL)]
    """Exclusive; null for no end."""
    after_term: Literal["perpetual", "delete_data_keep_models", "delete_data_and_models", "unknown"]
    attribution_required: bool
    attribution_template: Maybe[Annotated[str, Field(max_length=512)]] = None
    """May hold {title} {asset_id} {contributor} {credit_line} {attribution_text} {rights_holder}."""
    compensation: Maybe[Compensation] = None
    revocation: RevocationTerms
    odrl: Maybe[str | dict[str, Any]] = None
    """Exported, never evaluated."""
    revoked_at: Maybe[Timestamp] = None

    @model_validator(mode="after")
    def _rules(self) -> Self:
        if self.kind == "contract" and self.contract_id is None:
            raise fault("a contract has a number", "add contract_id", "contract_id")
        if self.kind == "contract" and not _CONTRACT.fullmatch(self.expression):
            raise fault("a contract is no SPDX licence", "write LicenseRef-NAME", "expression")
        if self.territory.mode != "worldwide" and self.territory.countries is None:
            fix = "list ISO 3166-1 codes, or make the mode worldwide"
            raise fault(f"mode {self.territory.mode} names no country", fix, "territory.countries")
        if self.attribution_required and self.attribution_template is None:
            raise fault("attribution is required", "say how, in attribution_template", "attribution_template")
        return self
