"""The input contract: what a delivery, an asset, a licence and a revocation say, and its JSON Schema.

The surprising rule: nothing is defaulted that decides a use. What a record does not grant is denied, and a
field that is unknown, null or of another type is a fault, never a guess.

A licence record says which parts of an asset it speaks for (``covers``). Agencies license the whole asset, so
both parts are the default. Where picture and words come from different people under different licences, each
record names its part, and ``pipeline.rights`` wants every used part admitted.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, TypeAdapter, WithJsonSchema, model_validator
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue, models_json_schema
from pydantic_core import core_schema

from pipeline.asset import Asset, Contributor, ImageFile, Record, Releases, Text
from pipeline.examples import template
from pipeline.faults import describe
from pipeline.fields import (
    OPAQUE,
    UNIQUE,
    Country,
    Grant,
    LicenseId,
    Many,
    Maybe,
    Provider,
    RecordId,
    RelativePath,
    Sha256,
    Timestamp,
    fault,
)

__all__ = ["Asset", "Contributor", "Delivery", "DeliveryFile", "ImageFile", "License", "Part", "Releases"]
__all__ += ["Revocation", "Text", "Use", "describe", "json_schema", "template"]

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
    countries: Maybe[Many[Country]] = None


class Compensation(Record):
    scheme: Literal["pool_pro_rata", "per_asset", "per_use", "none", "unknown"]
    report_every_days: Maybe[Annotated[int, Field(ge=1)]] = None


class RevocationTerms(Record):
    revocable: bool
    scope: Literal["future_use", "all_copies", "models_too"]
    sla_hours: Maybe[Annotated[int, Field(ge=0)]] = None


_CONTRACT = re.compile(r"LicenseRef-[A-Za-z0-9.-]+")
_TIMESTAMP_OR_NULL = {"anyOf": [TypeAdapter(Timestamp).json_schema(), {"type": "null"}]}


def _when(condition: Mapping[str, Any], consequence: Mapping[str, Any]) -> dict[str, Any]:
    return {"if": {"properties": condition}, "then": consequence}


class License(Record):
    """What one contract or public licence grants, to whom, where and until when."""

    model_config = ConfigDict(
        json_schema_extra={
            "allOf": [
                _when(
                    {"kind": {"const": "contract"}},
                    {
                        "required": ["contract_id"],
                        "properties": {"expression": {"pattern": "^LicenseRef-[A-Za-z0-9.-]+$"}},
                    },
                ),
                _when(
                    {"territory": {"properties": {"mode": {"enum": ["only", "except"]}}}},
                    {"properties": {"territory": {"required": ["countries"]}}},
                ),
                _when({"attribution_required": {"const": True}}, {"required": ["attribution_template"]}),
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
    covers: Annotated[Many[Part], UNIQUE, Field(min_length=1, json_schema_extra={"uniqueItems": True})] = (
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


class Revocation(Record):
    """An append-only fact. There is no un-revoking: a new grant needs a new licence id."""

    schema_: Literal["revocation/1.0"] = Field(alias="schema")
    revocation_id: RecordId
    provider: Provider
    target_type: Literal[
        "asset", "contributor", "license", "delivery", "model_release", "content_sha256", "content_pdq"
    ]
    targets: Annotated[
        Many[Annotated[str, Field(min_length=1, max_length=256), OPAQUE]],
        UNIQUE,
        Field(min_length=1, json_schema_extra={"uniqueItems": True}),
    ]
    """Ids of the provider's own records; contents are matched whoever delivered them."""
    reason: Literal[
        "contributor_opt_out",
        "copyright_takedown",
        "privacy_request",
        "release_withdrawn",
        "license_expired",
        "license_terminated",
        "illegal_content",
        "correction",
        "other",
    ]
    action: Literal["remove", "restrict", "replace"]
    restrict_uses: Many[Use] = ()
    requested_at: Timestamp
    effective_at: Timestamp
    deadline_at: Maybe[Timestamp] = None
    ticket: Maybe[Annotated[str, Field(max_length=256)]] = None

    @model_validator(mode="after")
    def _rules(self) -> Self:
        if self.action == "restrict" and not self.restrict_uses:
            raise fault("restrict names no use", "list the uses that end", "restrict_uses")
        foreign = [t for t in self.targets if ":" in t and not t.startswith(f"{self.provider}:")]
        if self.target_type == "asset" and foreign:
            fix = f"a provider revokes its own assets: write ASSET_ID or {self.provider}:ASSET_ID"
            raise fault(f"{foreign[0][:80]!r} belongs to another provider", fix, "targets")
        return self


class DeliveryFile(Record):
    path: RelativePath
    sha256: Sha256
    bytes: Annotated[int, Field(ge=0)]
    role: Literal["shard", "manifest", "image", "sidecar", "licenses", "revocations", "readme"]
    samples: Maybe[Annotated[int, Field(ge=0)]] = None


class Signature(Record):
    alg: Literal["ed25519"]
    key_id: str
    value: str


class Delivery(Record):
    """``delivery.json``: immutable, and it lists every other file."""

    schema_: Literal["delivery/1.0"] = Field(alias="schema")
    provider: Provider
    delivery_id: RecordId
    sequence: Annotated[int, Field(ge=0)]
    """Strictly increasing a provider; a gap stops ingestion."""
    kind: Literal["full", "delta", "correction", "revocation"]
    supersedes: Many[str] = ()
    form: Literal["webdataset", "manifest", "folder"]
    created_at: Timestamp
    snapshot_as_of: Maybe[Timestamp] = None
    allowed_hosts: Many[Annotated[str, Field(pattern=r"^[a-z0-9.-]+$")]] = ()
    allowed_buckets: Many[Annotated[str, Field(pattern=r"^[a-z0-9.-]{3,63}$")]] = ()
    counts: dict[str, Annotated[int, Field(ge=0)]] = Field(default_factory=dict)
    files: Annotated[Many[DeliveryFile], Field(min_length=1)]
    signature: Maybe[Signature] = None


class _Schema(GenerateJsonSchema):
    """Without pydantic's meaning of optional: a field is left out, and never null or defaulted here."""

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])


def json_schema() -> dict[str, Any]:
    """One JSON Schema (2020-12) document. Any of the four records validates against it by itself."""
    records: dict[str, type[Record]] = {
        "delivery": Delivery,
        "asset": Asset,
        "license": License,
        "revocation": Revocation,
    }
    _, found = models_json_schema(
        [(record, "validation") for record in records.values()], schema_generator=_Schema
    )
    text = json.dumps(found["$defs"])
    for name, record in records.items():
        text = text.replace(f'"{record.__name__}": {{', f'"{name}": {{')
    return {
        "$schema": GenerateJsonSchema.schema_dialect,
        "$id": "urn:pardalis:contract:1.0",
        "title": "Licensed image-text delivery contract 1.0",
        "oneOf": [{"$ref": f"#/$defs/{name}"} for name in records],
        "$defs": json.loads(text),
    }
