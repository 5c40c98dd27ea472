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
from pipeline import refs
from pipeline.contract import Delivery, License, Revocation
from pipeline.deliveries import kept, listing
from pipeline.deliveries.listing import LICENSES, MANIFEST
from pipeline.deliveries.opened import OpenDelivery, open_delivery

REVOCATIONS = "revocations"


def fold(corpus: Corpus, version: Version, uris: Sequence[str]) -> Version:
    """The version with the deliveries appended; of one that is folded in already, only the address is taken.

    So a delivery that was moved is found again: ingest it from where it is now.
    """
    for uri in uris:
        opened = open_delivery(Store.at(uri))
        if any(known.sha256 == opened.manifest_sha256 for known in version.deliveries):
            version = moved(version, opened)
            continue
        check_sequence(version, opened)
        check_licenses(corpus.store, version, opened)
        version = keep(corpus, version, opened)
    return version


def moved(version: Version, opened: OpenDelivery) -> Version:
    """The version that reads the delivery from where it was opened."""
    deliveries = tuple(
        replace(known, uri=opened.store.uri) if known.sha256 == opened.manifest_sha256 else known
        for known in version.deliveries
    )
    return replace(version, deliveries=deliveries)


def check_sequence(version: Version, opened: OpenDelivery) -> None:
    """The delivery is the provider's next, under an id and a number of its own; a full one is its first."""
    delivery, where = opened.delivery, opened.store.where(MANIFEST)
    before = [known for known in version.deliveries if known.provider == delivery.provider]
    for known in before:
        if known.delivery_id == delivery.delivery_id:
            detail = f"{delivery.delivery_id!r} was delivered with other contents; a delivery never changes"
            raise Refused(where, "delivery_id", "changed", detail)
        if known.sequence == delivery.sequence:
            fix = "number the newer one after the last"
            detail = f"{delivery.sequence} was delivered with other contents, as {known.delivery_id!r}; {fix}"
            raise Refused(where, "sequence", "repeated", detail)
    expected = before[-1].sequence + 1 if before else delivery.sequence
    if delivery.sequence != expected:
        detail = f"got {delivery.sequence}, {delivery.provider}'s next is {expected}; ingest that first"
        raise Refused(where, "sequence", "gap", detail)
    if not before and delivery.kind != "full" and delivery.sequence > 1:
        detail = f"a {delivery.kind} numbered {delivery.sequence} is the first of {delivery.provider} here"
        raise Refused(where, "sequence", "gap", f"{detail}; ingest what came before it, or a full delivery")
    if before and delivery.kind == "full":
        detail = (
            f"{delivery.provider} has delivered before, and what a later full delivery leaves out would stay "
            f"in the corpus; send a delta and revoke what is gone, or ingest it into a new corpus"
        )
        raise Refused(where, "kind", "full", detail)


def check_licenses(store: Store, version: Version, opened: OpenDelivery) -> None:
    """No record says something else under a revision that an earlier delivery of the provider gave."""
    where = opened.store.where(LICENSES)
    known = license_records(store, version, opened.delivery.provider)
    listing.latest([*known, *listing.read_licenses(opened.records.get(LICENSES, b""), where)], where)


def keep(corpus: Corpus, version: Version, opened: OpenDelivery) -> Version:
    """Copy the records into the corpus and list the delivery."""
    delivery = opened.delivery
    batches = kept.write(
        corpus.store, opened, [name for name in (MANIFEST, LICENSES) if name in opened.records]
    )
    if opened.revocations:
        lines = (record.model_dump_json(by_alias=True) + "\n" for record in opened.revocations)
        version = corpus.append(version, REVOCATIONS, "".join(lines).encode())
    folded = Folded(
        provider=delivery.provider,
        delivery_id=delivery.delivery_id,
        sequence=delivery.sequence,
        sha256=opened.manifest_sha256,
        uri=opened.store.uri,
        batches=batches,
    )
    return replace(version, deliveries=(*version.deliveries, folded))


def manifest_ref(store: Store, folded: Folded) -> refs.Ref:
    """The corpus's copy of ``delivery.json``."""
    return kept.manifest_ref(store, folded.sha256, folded.manifest)


def manifest(ref: refs.Ref) -> Delivery:
    return listing.read_delivery(ref.read(), ref.store.where(ref.name))


def license_records(store: Store, version: Version, provider: str) -> list[License]:
    """Every licence record that the provider's deliveries brought, in their order."""
    found: list[License] = []
    for folded in version.deliveries:
        if folded.provider == provider:
            name = f"{kept.folder(folded.sha256)}/{LICENSES}"
            # A revocation need not bring any.
            for file in (f for f in manifest(manifest_ref(store, folded)).files if f.path == LICENSES):
                ref = refs.Ref(store, name, file.sha256)
                found += listing.read_licenses(ref.read(), store.where(name))
    return found


def licenses(store: Store, version: Version, provider: str) -> dict[str, License]:
    """The provider's licence records by id, the highest revision over all its deliveries."""
    return listing.latest(license_records(store, version, provider), store.where("deliveries"))


def revocations(store: Store, version: Version) -> list[Revocation]:
    """The whole register, oldest first."""
    segments = Corpus(store).segments(version, REVOCATIONS)
    return [Revocation.model_validate_json(line) for segment in segments for line in segment.splitlines()]
