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
    folder,
    getty_api,
    img2dataset,
    shutterstock_api,
    shutterstock_contributor,
    shutterstock_dataset,
    table,
    webdataset,
)
from pipeline.deliveries.batch import Batch
from pipeline.deliveries.rows import Rows
from pipeline.deliveries.sample import Delivered, Sample


class Form(Protocol):
    def batches(self, at: Delivered) -> Iterable[Batch]:
        """In a fixed order; raises Refused for a listing, or a table, that the form does not allow."""

    def revocations(self, at: Delivered) -> list[Revocation]:
        """What the delivery takes back in the form's own words."""

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
TABLED = frozenset({"image", "manifest"})
ROLES: Mapping[str, frozenset[str]] = {
    **dict.fromkeys(FORMS, TABLED),
    "webdataset": frozenset({"shard"}),
    "folder": frozenset({"image", "sidecar"}),
    "img2dataset": frozenset({"shard", "manifest"}),
    "shutterstock_api": TABLED | {"feed"},
}
"""Of the files that bring a form's samples; others would be passed over."""
RECORDS = frozenset({"licenses", "revocations", "readme"})


def of(delivery: Delivery) -> Form:
    return FORMS[delivery.form]


def check(delivery: Delivery, where: str) -> None:
    """Every listed file has a use in the delivery's form."""
    used = ROLES[delivery.form] | RECORDS
    for file in delivery.files:
        if file.role not in used:
            told = f"role {file.role!r} has no use in the form {delivery.form!r}; roles are"
            raise Refused(where, file.path, "role", f"{told} {', '.join(sorted(used))}")
