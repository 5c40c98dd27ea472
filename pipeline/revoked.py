"""The revocations in force at an instant, as look-ups.

The surprising rule: ``remove`` and ``replace`` both take an asset out for good, and its bytes under whatever
id (:func:`followed`). There is no un-revoking; what replaces an asset is another picture with its own id.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from pipeline.contract import Asset, Revocation, Use
from pipeline.naming import asset_id

Target = tuple[str, str, str]
"""(target type, provider, id). Contents belong to no provider where the reason lies in them: then a hash is
revoked whoever delivers it."""
OF_RIGHTS = frozenset({"contributor_opt_out", "license_expired", "license_terminated"})
"""Reasons that concern what a provider may license. Another one may have the same picture from its maker
under a licence of its own; a takedown, or a person's privacy, asks nobody's licence."""
PDQ_BITS = 31
"""At this Hamming distance and below, two PDQ fingerprints (256 bits) are taken for the same picture."""


@dataclass(frozen=True, slots=True)
class Revoked:
    """``Revoked()`` is the empty register."""

    removed: Mapping[Target, str] = field(default_factory=dict)
    """To the id of the earliest revocation that names the target."""
    restricted: Mapping[Target, Mapping[Use, str]] = field(default_factory=dict)

    @classmethod
    def of(cls, revocations: Iterable[Revocation], as_of: datetime) -> Revoked:
        """Those effective at or before ``as_of``; later ones are as if they did not exist."""
        removed: dict[Target, str] = {}
        restricted: dict[Target, dict[Use, str]] = {}
        due = (record for record in revocations if record.effective_at <= as_of)
        for record in sorted(due, key=lambda record: (record.effective_at, record.revocation_id)):
            for target in _targets(record):
                if record.action == "restrict":
                    uses = restricted.setdefault(target, {})
                    uses |= {use: record.revocation_id for use in record.restrict_uses if use not in uses}
                else:
                    removed.setdefault(target, record.revocation_id)
        return cls(removed, restricted)

    def covers(self, asset: Asset) -> str | None:
        """Id of a revocation that takes the asset out.

        It names the asset, its bytes, its contributor, its delivery, a model release, or every licence.
        """
        for target in _named(asset):
            if target in self.removed:
                return self.removed[target]
        licenses = [self.license(asset.provider, name) for name in asset.license_ids]
        return licenses[0] if all(licenses) else None

    def license(self, provider: str, license_id: str) -> str | None:
        return self.removed.get(("license", provider, license_id))

    def restricts(self, asset: Asset) -> dict[Use, str]:
        """Uses that ended for the asset, whatever its licences say, and by which revocation."""
        found: dict[Use, str] = {}
        for target in _named(asset):
            found = {**self.restricted.get(target, {}), **found}
        return found

    def license_restricts(self, provider: str, license_id: str) -> Mapping[Use, str]:
        return self.restricted.get(("license", provider, license_id), {})

    def resembles(self, asset: Asset) -> str | None:
        """Id of a revocation whose fingerprint is near the asset's. A person decides: it is never removed."""
        if asset.file.pdq is None:
            return None
        own = int(asset.file.pdq, 16)
        for (kind, _, target), revocation_id in self.removed.items():
            if kind == "content_pdq" and (own ^ int(target, 16)).bit_count() <= PDQ_BITS:
                return revocation_id
        return None


def _targets(record: Revocation) -> Iterator[Target]:
    contents = record.target_type in ("content_sha256", "content_pdq")
    provider = "" if contents and record.reason not in OF_RIGHTS else record.provider
    for target in record.targets:
        if record.target_type == "asset":
            yield "asset", provider, asset_id(target.removeprefix(f"{provider}:"))
        else:
            yield record.target_type, provider, target


def followed(record: Revocation) -> list[Target]:
    """The targets whose pictures are taken back under whatever id: of assets, contributors and releases.

    What ends with a licence, a delivery, or for some uses alone may be granted to others, or anew.
    """
    if record.action == "restrict" or record.reason in ("license_expired", "license_terminated"):
        return []
    return [target for target in _targets(record) if target[0] in ("asset", "contributor", "model_release")]


def _named(asset: Asset) -> Iterator[Target]:
    yield "asset", asset.provider, asset.asset_id
    yield "contributor", asset.provider, asset.contributor.id
    yield "content_sha256", "", asset.file.sha256
    yield "content_sha256", asset.provider, asset.file.sha256
    if asset.delivery_id is not None:
        yield "delivery", asset.provider, asset.delivery_id
    for release in asset.releases.model_release_ids:
        yield "model_release", asset.provider, release
