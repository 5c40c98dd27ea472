"""The forms that a delivery's samples come in. Nothing outside this folder knows more than one reader.

A form makes batches of a delivery when it is opened, and reads the samples of one batch wherever it is sent.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol

from infra.guarded.refused import Refused
from pipeline.contract import Delivery, Revocation
from pipeline.deliveries import (
    adobe_stock,
    columns,
    folder,
    getty_api,
    img2dataset,
    rows,
    shutterstock_api,
    shutterstock_contributor,
    shutterstock_dataset,
    shutterstock_feed,
    table,
    webdataset,
)
from pipeline.deliveries.batch import Batch
from pipeline.deliveries.rows import Rows
from pipeline.deliveries.sample import MIME_OF, Delivered, Sample


class Form(Protocol):
    def batches(self, at: Delivered) -> Iterable[Batch]:
        """In a fixed order; raises Refused for a listing, or a table, that the form does not allow."""

    def read(self, at: Delivered, batch: Batch) -> Iterator[Sample]:
        """Every sample of the batch, once, in a fixed order."""


FORMS: Mapping[str, Form] = {
    "webdataset": webdataset,
    "folder": folder,
    "manifest": Rows(table),
    "img2dataset": img2dataset,
    "shutterstock_dataset": Rows(shutterstock_dataset),
    "shutterstock_api": Rows(shutterstock_api),
    "shutterstock_contributor": Rows(shutterstock_contributor),
    "adobe_stock": Rows(adobe_stock),
    "getty_api": Rows(getty_api),
}
IMAGES = frozenset(MIME_OF)
CSV, PAGES = frozenset({"csv"}), frozenset({"json", "jsonl"})
ACCEPTS: Mapping[str, Mapping[str, frozenset[str]]] = {
    "webdataset": {"shard": frozenset({"tar"})},
    "folder": {"image": IMAGES, "sidecar": frozenset({"json", "xmp"})},
    "manifest": {"image": IMAGES, "manifest": CSV | {"parquet"}},
    "img2dataset": {"shard": frozenset({"tar"}), "manifest": frozenset({"parquet"})},
    "shutterstock_dataset": {"image": IMAGES, "manifest": CSV},
    "shutterstock_api": {"image": IMAGES, "manifest": PAGES, "feed": PAGES},
    "shutterstock_contributor": {"image": IMAGES, "manifest": CSV},
    "adobe_stock": {"image": IMAGES, "manifest": CSV},
    "getty_api": {"image": IMAGES, "manifest": PAGES},
}
"""Extensions by role of the files that bring a form's samples; others would be passed over."""
RECORDS = frozenset({"licenses", "revocations", "readme"})


def of(delivery: Delivery) -> Form:
    return FORMS[delivery.form]


def revocations(at: Delivered) -> list[Revocation]:
    """What the delivery takes back in its form's own words: Shutterstock's feed of what changed."""
    feeds = rows.tables(at, "feed")
    if not feeds:
        return []
    entries = shutterstock_api.entries(rows.tables(at, "manifest"))
    delivered = {entry.key for entry in entries if entry.key is not None}
    return shutterstock_feed.revocations(feeds, at.delivery, delivered)


def check(delivery: Delivery, where: str) -> None:
    """Every listed file has a use in the delivery's form, and is of the kind that its use asks for."""
    used = ACCEPTS[delivery.form]
    for file in delivery.files:
        if file.role in RECORDS:
            continue
        if file.role not in used:
            told = f"role {file.role!r} has no use in the form {delivery.form!r}; roles are"
            raise Refused(where, file.path, "role", f"{told} {', '.join(sorted(RECORDS | used.keys()))}")
        if columns.extension(file.path) not in used[file.role]:
            told = f"a file of role {file.role!r} ends in {' or '.join(sorted(used[file.role]))} here"
            raise Refused(where, file.path, "extension", told)
