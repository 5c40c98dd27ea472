"""The asset record of the input contract: one revision of one image with its words.

The surprising rule: nothing is defaulted that decides a use. A field that is unknown, null or of another type
is a fault, never a guess. Import these names from ``pipeline.contract``.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from pipeline.fields import (
    OPAQUE,
    PROSE,
    UNIQUE,
    AssetId,
    Country,
    Id,
    LicenseId,
    Many,
    Maybe,
    Mime,
    Provider,
    RelativePath,
    Release,
    Sha256,
    Timestamp,
    Tri,
    fault,
)


class Record(BaseModel):
    """Frozen and strict. Written back as it was read: fields that were left out stay out."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True, serialize_by_alias=True
    )

    @model_serializer(mode="wrap")
    def _leave_out(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        optional = {f.alias or name for name, f in type(self).model_fields.items() if not f.is_required()}
        return {
            key: value
            for key, value in handler(self).items()
            if not (key in optional and value in (None, [], (), {}))
        }


class Text(Record):
    """A description in some language, and who wrote it."""

    lang: Annotated[str, Field(pattern=r"^[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*$")]
    text: Annotated[str, Field(min_length=1, max_length=4000), PROSE]
    origin: Literal["contributor", "agency", "translated", "model"]
    model_id: Maybe[Annotated[str, Field(max_length=128)]] = None


class Category(Record):
    id: Maybe[Annotated[str, Field(max_length=64)]] = None
    name: Annotated[str, Field(max_length=128), PROSE]


class ModerationLabel(Record):
    name: Annotated[str, Field(max_length=128), PROSE]
    score: Maybe[Annotated[float, Field(ge=0, le=1)]] = None


class Releases(Record):
    """The four PLUS codes of model and property releases, and ``unknown``."""

    model: Release
    property: Release
    model_release_ids: Annotated[Many[Id], Field(max_length=256)] = ()
    property_release_ids: Annotated[Many[Id], Field(max_length=256)] = ()


class Location(Record):
    country: Maybe[Country] = None
    text: Maybe[Annotated[str, Field(max_length=256), PROSE]] = None


class Contributor(Record):
    id: Id
    """Who is credited and paid; opaque to us."""
    display_name: Maybe[Annotated[str, Field(max_length=256), PROSE]] = None
    country: Maybe[Country] = None


URI = r"^(https|s3)://[^/?#@\\\x00-\x20]+/"
"""A host or a bucket, and a path in it. What stands before an ``@`` there would be a name and a password."""


class ImageFile(Record):
    """The delivered bytes."""

    sha256: Sha256
    bytes: Annotated[int, Field(ge=1, le=100_663_296)]
    mime: Mime
    width: Annotated[int, Field(ge=1, le=65_500)]
    height: Annotated[int, Field(ge=1, le=65_500)]
    color_space: Maybe[Annotated[str, Field(max_length=32)]] = None
    uri: Maybe[Annotated[str, Field(max_length=2048, pattern=URI)]] = None
    s3_version_id: Maybe[Annotated[str, Field(max_length=1024)]] = None
    path: Maybe[RelativePath] = None
    pdq: Maybe[Sha256] = None
    """256 bits in hexadecimal."""


class Asset(Record):
    """One revision of one image with its words."""

    model_config = ConfigDict(
        json_schema_extra={
            "allOf": [
                {
                    "if": {"properties": {"status": {"const": "revoked"}}, "required": ["status"]},
                    "then": {"required": ["revoked_at"]},
                },
                {
                    "if": {"properties": {"has_people": {"const": "no"}}, "required": ["has_people"]},
                    "then": {
                        "properties": {
                            "releases": {
                                "properties": {"model": {"enum": ["not_applicable", "none", "unlimited"]}}
                            }
                        }
                    },
                },
            ]
        }
    )

    schema_: Literal["asset/1.0"] = Field(alias="schema")
    provider: Provider
    asset_id: AssetId
    asset_revision: Annotated[int, Field(ge=0, le=2_147_483_647)]
    """Grows with every correction; the highest revision wins whole, whenever it came. Of equal ones the first
    delivered counts."""
    delivery_id: Maybe[Annotated[str, Field(max_length=128), OPAQUE]] = None
    """Filled in when the delivery is read."""
    image_type: Literal["photo", "illustration", "vector", "render_3d", "unknown"]
    title: Maybe[Annotated[str, Field(max_length=400), PROSE]] = None
    description: Annotated[str, Field(min_length=1, max_length=4000), PROSE]
    """The primary training text."""
    descriptions: Annotated[Many[Text], Field(max_length=64)] = ()
    keywords: Annotated[
        Many[Annotated[str, Field(min_length=1, max_length=100), PROSE]], Field(max_length=100)
    ] = ()
    categories: Annotated[Many[Category], Field(max_length=10)] = ()
    is_editorial: bool
    is_adult: bool
    moderation_labels: Annotated[Many[ModerationLabel], Field(max_length=64)] = ()
    ai_generated: Literal["no", "yes", "partial", "unknown"]
    digital_source_type: Maybe[
        Annotated[str, Field(pattern=r"^https?://cv\.iptc\.org/newscodes/digitalsourcetype/[A-Za-z]+$")]
    ] = None
    has_people: Tri
    """Real, recognisable people; a drawing of nobody in particular has none."""
    has_minors: Maybe[Tri] = None
    has_property: Maybe[Tri] = None
    releases: Releases
    location: Maybe[Location] = None
    date_created: Maybe[Timestamp] = None
    date_submitted: Maybe[Timestamp] = None
    date_updated: Maybe[Timestamp] = None
    contributor: Contributor
    credit_line: Maybe[Annotated[str, Field(max_length=512), PROSE]] = None
    copyright_notice: Maybe[Annotated[str, Field(max_length=1024), PROSE]] = None
    attribution_text: Maybe[Annotated[str, Field(max_length=1024), PROSE]] = None
    license_ids: Annotated[
        Many[LicenseId], Field(min_length=1, max_length=16, json_schema_extra={"uniqueItems": True}), UNIQUE
    ]
    """Grants are a union, each licence judged whole."""
    usage_restrictions: Annotated[
        Many[Annotated[str, Field(min_length=1, max_length=1000), PROSE]], Field(max_length=32)
    ] = ()
    """What agencies say in words, such as Getty's ``usage_restrictions`` and Shutterstock's
    ``special_instructions``: any of them asks for a person."""
    file: ImageFile
    status: Literal["active", "revoked", "superseded"]
    revoked_at: Maybe[Timestamp] = None
    extra: Annotated[dict[str, Annotated[str, Field(max_length=4096)]], Field(max_length=64)] = Field(
        default_factory=dict
    )
    """Never used for decisions."""

    @property
    def uid(self) -> str:
        return f"{self.provider}:{self.asset_id}"

    @property
    def member_key(self) -> str:
        """Names the asset's members in our own tars; unique, since a provider has no underscore."""
        return f"{self.provider}_{self.asset_id}"

    @model_validator(mode="after")
    def _rules(self) -> Self:
        if self.status == "revoked" and self.revoked_at is None:
            raise fault("a revoked asset says when", "add revoked_at", "revoked_at")
        if self.has_people == "no" and self.releases.model not in ("not_applicable", "none", "unlimited"):
            fix = "make it not_applicable, none or unlimited, or correct has_people"
            raise fault("has_people is no", fix, "releases.model")
        return self
