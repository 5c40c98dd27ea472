"""Make a delivery of a folder: list every file with its sha256, and write ``delivery.json``, last and once.

The surprising rule: a sealed folder is never sealed again. What comes later is another delivery, with the
next number; and a file that has no use in the form is refused here, before anybody takes it for delivered. So
is a symbolic link, which may lead anywhere. What an operating system left in the folder is passed over.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from infra.guarded.hashed import Hashed
from infra.guarded.refused import Refused
from infra.storage import LocalStore, Store
from infra.telemetry import Bar
from pipeline.contract import Delivery, Form, describe
from pipeline.deliveries import columns, forms, listing
from pipeline.deliveries.columns import extension
from pipeline.deliveries.listing import LICENSES, MANIFEST, REVOCATIONS
from pipeline.deliveries.opened import OpenDelivery, as_listed

RECORDS = {path: role for role, path in forms.RECORDS.items()}
WRITTEN = {LICENSES: "license", REVOCATIONS: "revocation"}
"""The template of what stands in it."""
OBJECT = frozenset({"media_type", "description"})
"""Fields that an object of Shutterstock's API has, and an entry of its feed of changes has not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """What nobody can read from the files."""

    provider: str
    sequence: int
    kind: Literal["full", "delta", "correction", "revocation"]
    created_at: datetime
    """UTC; passed in, since nothing here reads a clock."""
    every_asset: Mapping[str, Any]
    allowed_hosts: tuple[str, ...] = ()
    allowed_buckets: tuple[str, ...] = ()


def seal(store: Store, form: Form, statement: Statement) -> Delivery:
    """Write ``delivery.json``. Raises :class:`Refused` for a sealed folder, one without licences, or what the
    form does not take, and ValueError for records and statements that are none.
    """
    names = [name for name in store.names() if name != MANIFEST and not listing.left_behind(name)]
    if store.exists(MANIFEST):
        told = "the folder is a delivery already, and once ingested a delivery never changes"
        fix = f"deliver what is new from another folder, or, before it is ingested, delete {MANIFEST}"
        raise Refused(store.uri, MANIFEST, "sealed", f"{told}; {fix} and seal it again")
    check_links(store)
    if not names:
        raise Refused(store.uri, "", "empty", "there is no such folder, or nothing in it; see its name")
    needed = listing.needed_records(statement.kind)
    if needed not in names:
        fix = f"write one record a line; `pardalis contract template {WRITTEN[needed]}` prints an example"
        raise Refused(store.uri, needed, "missing", f"a {statement.kind} delivery is nothing without; {fix}")
    bar = Bar("seal", len(names), "files")
    files = []
    for name in names:
        files.append({**hashed(store, name), "role": role(form, name, store)})
        bar.advance(1)
    document = {
        "schema": "delivery/1.0",
        "provider": statement.provider,
        "delivery_id": f"{statement.provider}-{statement.sequence:06d}",
        "sequence": statement.sequence,
        "kind": statement.kind,
        "form": form,
        "every_asset": dict(statement.every_asset),
        "created_at": statement.created_at,
        "allowed_hosts": statement.allowed_hosts,
        "allowed_buckets": statement.allowed_buckets,
        "files": files,
    }
    try:
        delivery = Delivery.model_validate(document)
    except ValidationError as error:
        raise ValueError(describe(error, MANIFEST)) from None
    raw = (delivery.model_dump_json() + "\n").encode()
    opened = as_listed(store, raw)  # refuses what would be refused for ever, while it can still be mended
    check_licensed(opened, statement)
    store.write(MANIFEST, raw)
    return delivery


def check_licensed(opened: OpenDelivery, statement: Statement) -> None:
    """Licences that all assets are said to come under are there; a later delivery may mean an earlier's."""
    named = statement.every_asset.get("license_ids", ())
    unknown = [name for name in named if name not in opened.licenses]
    if statement.kind == "full" and unknown:
        told = f"every_asset names {str(unknown[0])[:80]!a}, which it has no record of; its records are"
        raise Refused(opened.store.uri, LICENSES, "license", f"{told} {', '.join(opened.licenses)}")


def hashed(store: Store, name: str) -> dict[str, Any]:
    with store.open(name) as file:
        stream = Hashed(file, most=store.size(name))
        stream.drain()
    return {"path": name, "sha256": stream.sha256.hexdigest(), "bytes": stream.num_bytes}


def check_links(store: Store) -> None:
    """A link is not listed, so that nobody would miss what is behind it."""
    if not isinstance(store, LocalStore):
        return
    for at, folders, files in os.walk(store.root):
        for path in (Path(at, name) for name in sorted([*folders, *files])):
            name = path.relative_to(store.root).as_posix()
            if path.is_symlink() and not listing.left_behind(name):
                told = "it is a symbolic link, and may lead anywhere; put what it leads to in its place"
                raise Refused(store.uri, name, "link", told)


def role(form: Form, name: str, store: Store) -> str:
    if name in RECORDS:
        return RECORDS[name]
    if forms.is_readme(form, name):
        return "readme"
    accepts = forms.ACCEPTS[form]
    if "feed" in accepts and extension(name) in accepts["feed"]:
        return "feed" if tells_changes(store, name) else "manifest"
    found = next((role for role, kinds in accepts.items() if extension(name) in kinds), None)
    if found is None:
        used = ", ".join(f".{kind}" for kind in sorted(frozenset().union(*accepts.values())))
        told = f"it has no use in the form {form!r}, whose files are {used}; move it away, or name --form"
        raise Refused(MANIFEST, name, "role", told)
    return found


def tells_changes(store: Store, name: str) -> bool:
    """Whether a file has entries, all of them of Shutterstock's feed: they say ``updates``, and no more of
    an image than its id.
    """
    data = store.read(name, at_most=listing.MAX_LINES_BYTES + 1)
    said = [cells.keys() for _, cells in columns.rows(data, store.where(name))]
    return bool(said) and all("updates" in fields and not fields & OBJECT for fields in said)


def guess(names: Collection[str]) -> Form:
    """The contract's own form that the files look like; an agency's layout is always named."""
    files = [name for name in names if name not in RECORDS and not listing.left_behind(name)]
    kinds = {extension(name) for name in files}
    if "tar" in kinds:
        return "img2dataset" if "parquet" in kinds else "webdataset"
    return "manifest" if kinds & {"csv", "parquet"} else "folder"
