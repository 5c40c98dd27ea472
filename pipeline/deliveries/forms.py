"""The forms that a delivery's samples come in. Nothing outside this folder knows more than one reader.

A form is a module with ``ROLE``, ``count``, ``batches`` and ``read``. Batches follow from ``delivery.json``
alone, so that whoever lists the tasks and whoever works on one agree without telling each other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol

from infra.guarded.refused import Refused
from pipeline.contract import Delivery
from pipeline.deliveries import folder, table, webdataset
from pipeline.deliveries.batch import Batch
from pipeline.deliveries.sample import Delivered, Sample


class Form(Protocol):
    @property
    def ROLE(self) -> str:
        """Of a batch's files among what a task reads."""

    def count(self, delivery: Delivery) -> int | None:
        """Samples, as far as ``delivery.json`` tells."""

    def batches(self, delivery: Delivery) -> list[Batch]:
        """In a fixed order; raises Refused for a listing that the form does not allow."""

    def read(self, at: Delivered, batch: Batch) -> Iterator[Sample]:
        """Every sample of the batch, once, in a fixed order."""


FORMS: Mapping[str, Form] = {"webdataset": webdataset, "folder": folder, "manifest": table}
ROLES: Mapping[str, frozenset[str]] = {
    "webdataset": frozenset({"shard"}),
    "folder": frozenset({"image", "sidecar"}),
    "manifest": frozenset({"image", "manifest"}),
}
"""Of the files that bring a form's samples; others would be passed over."""
RECORDS = frozenset({"licenses", "revocations", "readme"})


def of(delivery: Delivery) -> Form:
    return FORMS[delivery.form]


def check(delivery: Delivery, where: str) -> None:
    """Every listed file has a use in the delivery's form, and they make batches."""
    used = ROLES[delivery.form] | RECORDS
    for file in delivery.files:
        if file.role not in used:
            told = f"role {file.role!r} has no use in the form {delivery.form!r}; roles are"
            raise Refused(where, file.path, "role", f"{told} {', '.join(sorted(used))}")
    of(delivery).batches(delivery)
