"""Rows and records that still name a contributor, a licence, a delivery or a release that was taken back.

The surprising rule: a licence is judged by what stands beside it. Who was admitted by it (``licenses``) may
be so no longer; a record that merely lists it (``license_ids``) is wrong only if nothing else is left.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

NAMES = {
    "contributor": "contributor",
    "contributor_id": "contributor",
    "contributors": "contributor",
    "license": "license",
    "licenses": "license",
    "license_ids": "license",
    "delivery": "delivery",
    "delivery_id": "delivery",
    "model_releases": "model_release",
    "model_release_ids": "model_release",
}
"""Columns and keys, and of what they are names."""
LISTS_ALL = "license_ids"


@dataclass(frozen=True, slots=True)
class Named:
    kind: str
    provider: str
    value: str


class Fields:
    def __init__(self, named: Iterable[Named]) -> None:
        self._by: dict[tuple[str, str], set[str]] = {}
        for one in named:
            self._by.setdefault((one.kind, one.value), set()).add(one.provider)

    def __bool__(self) -> bool:
        return bool(self._by)

    def values(self, name: str) -> list[str]:
        """That a column or key of this name may not hold, with and without the provider."""
        kind = NAMES.get(name)
        found = [(value, providers) for (of, value), providers in self._by.items() if of == kind]
        return [value for value, _ in found] + [f"{one}:{value}" for value, all_ in found for one in all_]

    def names(self, name: str, value: str, provider: str) -> bool:
        """Whether it was taken back; where no provider is known, of whomever it is."""
        kind = NAMES.get(name, "")
        owner, split, bare = value.partition(":")
        if split and owner in self._by.get((kind, bare), ()):
            return True
        owners = self._by.get((kind, value), set())
        return bool(owners) and (not provider or provider in owners)

    def in_record(self, record: dict[str, Any]) -> Iterator[tuple[str, str]]:
        """(key, value) of an object that is about an asset, or counts by contributor or licence."""
        provider = provider_of(record)
        for key, told in record.items():
            if key not in NAMES:
                continue
            if isinstance(told, dict) and "id" not in told:  # counted: names are the keys
                yield from ((key, name) for name in told if ":" in name and self.names(key, name, ""))
            elif "uid" in record or "asset_id" in record:
                values = _values(told)
                wrong = [value for value in values if self.names(key, value, provider)]
                if key != LISTS_ALL or len(wrong) == len(values):
                    yield from ((key, value) for value in wrong)
        releases = record.get("releases")
        if isinstance(releases, dict) and ("uid" in record or "asset_id" in record):
            for value in _values(releases.get("model_release_ids")):
                if self.names("model_release_ids", value, provider):
                    yield "releases.model_release_ids", value


def provider_of(record: dict[str, Any]) -> str:
    provider = record.get("provider")
    if isinstance(provider, str):
        return provider
    uid = record.get("uid")
    return uid.partition(":")[0] if isinstance(uid, str) else ""


def _values(told: Any) -> Collection[str]:
    if isinstance(told, dict):
        told = told.get("id")
    many = told if isinstance(told, list) else [told]
    return [one for one in many if isinstance(one, str)]
