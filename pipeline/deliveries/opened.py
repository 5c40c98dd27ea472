"""Open a delivery: its records read, its files those that it lists, whatever the form of its samples."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from infra.storage import Store
from infra.telemetry import Bar
from pipeline.contract import Delivery, DeliveryFile, License, Revocation
from pipeline.deliveries import forms, listing
from pipeline.deliveries.batch import Batch
from pipeline.deliveries.listing import LICENSES, MANIFEST, REVOCATIONS
from pipeline.deliveries.sample import Delivered


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenDelivery(Delivered):
    """A delivery whose files are those that it lists."""

    licenses: Mapping[str, License]
    """By id; the highest revision of each."""
    revocations: tuple[Revocation, ...]
    manifest_sha256: str
    records: Mapping[str, bytes]
    """The very bytes that were checked, by path: ``delivery.json``, the licences and the revocations."""

    @property
    def batches(self) -> Iterator[Batch]:
        """Of its samples, in their order, made anew from the tables each time."""
        return iter(forms.of(self.delivery).batches(self))

    @property
    def shards(self) -> tuple[DeliveryFile, ...]:
        return tuple(file for file in self.delivery.files if file.role == "shard")


def open_delivery(store: Store) -> OpenDelivery:
    """Read the records and check every listed file's size and sha256, shards and images included.

    Raises :class:`Refused` for files that are missing, changed, not listed or not of the form, and ValueError
    with every fault of every record. Where the files are too many to hash in one process,
    :func:`peek_delivery` will do: who reads samples checks their files again.
    """
    opened = peek_delivery(store)
    bulk = [file for file in opened.delivery.files if file.role in listing.BULK]
    bar = Bar("check", len(bulk), "files")
    for file in bulk:
        listing.check_bytes(store, file)
        bar.advance(1)
    return opened


def peek_delivery(store: Store) -> OpenDelivery:
    """The same without reading shards and images: their names and sizes are checked, their bytes are not."""
    return as_listed(store, listing.fetch(store))


def as_listed(store: Store, raw: bytes) -> OpenDelivery:
    """What :func:`peek_delivery` makes of a ``delivery.json`` that need not lie in the store yet."""
    where = store.where(MANIFEST)
    delivery = listing.read_delivery(raw, where)
    listing.check_supported(delivery, where)
    delivery = listing.check_listing(store, delivery)
    forms.check(delivery, where)
    kept = {MANIFEST: raw}
    for file in delivery.files:
        if file.role in ("licenses", "revocations", "readme"):
            data = listing.verified(store, file)
            kept |= {file.path: data} if file.path in (LICENSES, REVOCATIONS) else {}
    licenses = listing.read_licenses(kept.get(LICENSES, b""), store.where(LICENSES))
    revocations = listing.read_revocations(kept.get(REVOCATIONS, b""), store.where(REVOCATIONS))
    listing.check_provider(revocations, delivery.provider, store.where(REVOCATIONS))
    here, form = Delivered(store=store, delivery=delivery), forms.of(delivery)
    num_samples = [batch.samples for batch in form.batches(here)]
    listing.check_counts(delivery, counted(delivery, licenses, revocations, num_samples), where)
    return OpenDelivery(
        store=store,
        delivery=delivery,
        licenses=listing.latest(licenses, store.where(LICENSES)),
        revocations=(*revocations, *forms.revocations(here)),
        manifest_sha256=hashlib.sha256(raw).hexdigest(),
        records=kept,
    )


def counted(
    delivery: Delivery,
    licenses: Sequence[License],
    revocations: Sequence[Revocation],
    num_samples: Sequence[int | None],
) -> dict[str, int | None]:
    """What can be counted before the samples are read; None is what cannot be told yet."""
    known = [num for num in num_samples if num is not None]
    return {
        "samples": sum(known) if len(known) == len(num_samples) else None,
        "shards": sum(file.role == "shard" for file in delivery.files),
        "files": len(delivery.files),
        "licenses": len(licenses),
        "revocations": len(revocations),
    }
