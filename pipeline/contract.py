"""The input contract: what a delivery, an asset, a licence and a revocation say, and its JSON Schema.

The surprising rule: nothing is defaulted that decides a use. What a record does not grant is denied, and a
field that is unknown, null or of another type is a fault, never a guess.

A licence record says which parts of an asset it speaks for (``covers``). Agencies license the whole asset, so
both parts are the default. Where picture and words come from different people under different licences, each
record names its part, and ``pipeline.rights`` wants every used part admitted.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, FailFast, Field, model_validator
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue, models_json_schema
from pydantic_core import core_schema

from pipeline import stated
from pipeline.asset import Asset, Contributor, ImageFile, Record, Releases, Text
from pipeline.faults import describe
from pipeline.fields import (
    OPAQUE,
    SHA256,
    UNIQUE,
    Many,
    Maybe,
    Provider,
    RecordId,
    RelativePath,
    Sha256,
    Timestamp,
    fault,
)
from pipeline.license import PARTS, License, Part, Use, when
from pipeline.template import template

__all__ = ["PARTS", "Asset", "Contributor", "Delivery", "DeliveryFile", "ImageFile", "License", "Part"]
__all__ += ["Releases", "Revocation", "Text", "Use", "describe", "json_schema", "template"]


Form = Literal[
    "webdataset",
    "manifest",
    "folder",
    "img2dataset",
    "shutterstock_dataset",
    "shutterstock_api",
    "shutterstock_contributor",
    "adobe_stock",
    "getty_api",
]
"""How samples come: in the contract's own three forms, or in layouts that agencies and tools write."""


class Revocation(Record):
    """An append-only fact. There is no un-revoking: what was taken back stays out, its bytes too."""

    model_config = ConfigDict(
        json_schema_extra={
            "allOf": [
                when(
                    {"action": {"const": "restrict"}},
                    {"required": ["restrict_uses"], "properties": {"restrict_uses": {"minItems": 1}}},
                ),
                when(
                    {"target_type": {"pattern": "^content_"}},
                    {"properties": {"targets": {"items": {"pattern": "^[0-9a-f]{64}$"}}}},
                ),
            ]
        }
    )

    schema_: Literal["revocation/1.0"] = Field(alias="schema")
    revocation_id: RecordId
    provider: Provider
    target_type: Literal[
        "asset", "contributor", "license", "delivery", "model_release", "content_sha256", "content_pdq"
    ]
    targets: Annotated[
        Many[Annotated[str, Field(min_length=1, max_length=256), OPAQUE]],
        Field(min_length=1, json_schema_extra={"uniqueItems": True}),
        UNIQUE,
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
        if self.target_type.startswith("content_") and not all(map(SHA256.fullmatch, self.targets)):
            raise fault("a content is named by its hash", "write 64 lower-case hex digits", "targets")
        return self


class DeliveryFile(Record):
    path: RelativePath
    sha256: Sha256
    bytes: Annotated[int, Field(ge=0)]
    role: Literal["shard", "manifest", "image", "sidecar", "feed", "licenses", "revocations", "readme"]
    samples: Maybe[Annotated[int, Field(ge=0)]] = None
    """Keys of a shard or rows of a manifest, compared when it is read. Of other files it is carried only."""


class Signature(Record):
    """A delivery that has one is refused, until signatures are verified."""

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
    """``full`` is a provider's first delivery, and a later one is refused: what it leaves out would stay. The
    others are read alike; a ``revocation`` must bring revocations."""
    supersedes: Many[str] = ()
    """Carried only: what replaces an asset is its revision, and what ends one is a revocation."""
    form: Form
    every_asset: dict[str, Any] = Field(default_factory=dict)
    """Fields of the asset record that hold for every asset which does not say otherwise itself, such as
    ``license_ids`` where an agency's columns have none. Stated here by whoever delivers, never guessed."""
    created_at: Timestamp
    snapshot_as_of: Maybe[Timestamp] = None
    """Carried only."""
    allowed_hosts: Many[Annotated[str, Field(pattern=r"^[a-z0-9.-]+$")]] = ()
    """Of images at https addresses. One is followed only if the configuration allows the host too."""
    allowed_buckets: Many[Annotated[str, Field(pattern=r"^[a-z0-9.-]{3,63}$")]] = ()
    """Of images at s3 addresses, with the same rule."""
    counts: dict[str, Annotated[int, Field(ge=0)]] = Field(default_factory=dict)
    """Of ``samples``, ``shards``, ``files``, ``licenses`` or ``revocations``; each is compared with what
    arrives, and another name is refused."""
    # The first file at fault is told of: 100,000 that are took a gigabyte.
    files: Annotated[Many[DeliveryFile], FailFast(), Field(min_length=1)]
    signature: Maybe[Signature] = None

    @model_validator(mode="after")
    def _rules(self) -> Self:
        stated.check(self.every_asset)
        return self


class _Schema(GenerateJsonSchema):
    """Without pydantic's meaning of optional: a field is left out, and never null or defaulted here."""

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])


def _common(definitions: dict[str, Any]) -> dict[str, Any]:
    """The schema of ``every_asset``: the asset's, of which nothing is required, nor inside its objects."""
    asset = definitions["Asset"]

    def part(schema: dict[str, Any]) -> dict[str, Any]:
        whole = definitions.get(schema.get("$ref", "").removeprefix("#/$defs/"), schema)
        return {name: value for name, value in whole.items() if name != "required"}

    return {
        "properties": {name: part(asset["properties"][name]) for name in sorted(stated.FIELDS)},
        "additionalProperties": False,
        "allOf": asset["allOf"],
    }


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
    found["$defs"]["Delivery"]["properties"]["every_asset"] |= _common(found["$defs"])
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
