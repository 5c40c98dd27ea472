"""Fold deliveries into a version: check them, keep their records beside the corpus, extend the register.

Deliveries are numbered by their provider; a gap stops ingestion, since a missed revocation is worse than a
late addition. The manifest and the licences are copied into the corpus, so that every later decision can be
made, and every key computed, without the delivery itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from infra.corpus import Corpus, Folded, Version
from infra.guarded.refused import Refused
from infra.storage import Store
from pipeline.contract import Delivery, License, Revocation
from pipeline.deliveries import webdataset

REVOCATIONS = "revocations"


def folder(sha256: str) -> str:
    """Where the corpus keeps a delivery's own records."""
    return f"deliveries/{sha256}"


def fold(corpus: Corpus, version: Version, uris: Sequence[str]) -> Version:
    """The version with the deliveries appended; one that is folded in already is passed over."""
    for uri in uris:
        store = Store.at(uri)
        opened = webdataset.open_delivery(store)
        if any(known.sha256 == opened.manifest_sha256 for known in version.deliveries):
            continue
        check_sequence(version, opened.delivery, store)
        version = keep(corpus, version, opened)
    return version


def check_sequence(version: Version, delivery: Delivery, store: Store) -> None:
    before = [known for known in version.deliveries if known.provider == delivery.provider]
    where = store.where(webdataset.MANIFEST)
    for known in before:
        if known.delivery_id == delivery.delivery_id:
            detail = f"{delivery.delivery_id!r} was delivered with other contents; a delivery never changes"
            raise Refused(where, "delivery_id", "changed", detail)
    expected = before[-1].sequence + 1 if before else delivery.sequence
    if delivery.sequence != expected:
        detail = f"got {delivery.sequence}, {delivery.provider}'s next is {expected}; ingest that first"
        raise Refused(where, "sequence", "gap", detail)


def keep(corpus: Corpus, version: Version, opened: webdataset.OpenDelivery) -> Version:
    """Copy the records into the corpus and list the delivery."""
    sha256, delivery = opened.manifest_sha256, opened.delivery
    for name in (webdataset.MANIFEST, webdataset.LICENSES):
        corpus.store.create(f"{folder(sha256)}/{name}", opened.store.read(name))
    if opened.revocations:
        lines = (record.model_dump_json(by_alias=True) + "\n" for record in opened.revocations)
        version = corpus.append(version, REVOCATIONS, "".join(lines).encode())
    folded = Folded(
        provider=delivery.provider,
        delivery_id=delivery.delivery_id,
        sequence=delivery.sequence,
        sha256=sha256,
        uri=opened.store.uri,
    )
    return replace(version, deliveries=(*version.deliveries, folded))


def manifest(store: Store, folded: Folded) -> Delivery:
    return Delivery.model_validate_json(store.read(f"{folder(folded.sha256)}/{webdataset.MANIFEST}"))


def licenses(store: Store, version: Version, provider: str) -> dict[str, License]:
    """The provider's licence records by id, the highest revision over all its deliveries."""
    found: dict[str, License] = {}
    for folded in version.deliveries:
        if folded.provider == provider:
            raw = store.read(f"{folder(folded.sha256)}/{webdataset.LICENSES}")
            for line in raw.splitlines():
                record = License.model_validate_json(line)
                known = found.get(record.license_id)
                if known is None or known.license_revision <= record.license_revision:
                    found[record.license_id] = record
    return found


def revocations(store: Store, version: Version) -> list[Revocation]:
    """The whole register, oldest first."""
    segments = Corpus(store).segments(version, REVOCATIONS)
    return [Revocation.model_validate_json(line) for segment in segments for line in segment.splitlines()]
