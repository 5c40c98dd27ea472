"""The forms that a delivery's samples come in. Nothing outside this folder knows more than one reader.

A form makes batches of a delivery when it is opened, and reads the samples of one batch wherever it is sent.
"""

from __future__ import annotations

import re
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
from pipeline.deliveries.listing import LICENSES, REVOCATIONS
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
RECORDS = {"licenses": LICENSES, "revocations": REVOCATIONS}
"""What brings no sample, and where it stands; a readme may be any of those below."""
README = re.compile(r"(.*/)?(README(\.(md|txt))?|LICEN[CS]E([-_. ][^/]*)?)", re.IGNORECASE)
STATISTICS = re.compile(r"(.*/)?[0-9]+_stats\.json")
"""What img2dataset counted, beside each of its tars."""


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
            if file.path != RECORDS[file.role]:
                told = f"the file of role {file.role!r} is {RECORDS[file.role]}; name it so, or leave it out"
                raise Refused(where, file.path, "role", told)
        elif file.role == "readme":
            if not is_readme(delivery.form, file.path):
                told = (
                    "a file of role 'readme' is README, README.md, README.txt or a LICENSE; leave others out"
                )
                raise Refused(where, file.path, "role", told)
        elif file.role not in used:
            told = f"role {file.role!r} has no use in the form {delivery.form!r}; roles are"
            fix = ", ".join(sorted({"readme", *RECORDS, *used}))
            raise Refused(where, file.path, "role", f"{told} {fix}")
        elif columns.extension(file.path) not in used[file.role]:
            told = f"a file of role {file.role!r} ends in {' or '.join(sorted(used[file.role]))} here"
            raise Refused(where, file.path, "extension", told)


def is_readme(form: str, path: str) -> bool:
    """Whether the file is there for people. What could bring a sample is not: ``license-plate.jpg``."""
    if form == "img2dataset" and STATISTICS.fullmatch(path):
        return True
    read = frozenset().union(*(kinds for used in ACCEPTS.values() for kinds in used.values()))
    return README.fullmatch(path) is not None and columns.extension(path) not in read
