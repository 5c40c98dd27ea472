"""The commands about the input contract: its schema, examples, and making a delivery of a folder."""

from __future__ import annotations

import json as json_text
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from infra.guarded import json as guarded
from infra.options import answer
from infra.storage import Store
from pipeline import contract
from pipeline.contract import Form
from pipeline.deliveries import emoji, listing, openclipart, seal
from pipeline.template import EVERY_ASSET

Json = Annotated[bool, Parameter(negative="")]
OPENCLIPART = Path("/usr/share/openclipart")
"""Where Debian's packages openclipart-svg and openclipart-png install to."""


def schema(*, json: Json = True) -> None:
    """Print the input contract as JSON Schema (2020-12), version 1.0.

    Example: pardalis contract schema > contract.schema.json

    Parameters
    ----------
    json
        Taken for the sake of scripts; the answer is JSON with it and without.
    """
    answer(contract.json_schema(), "", json=json)


def template(
    record: Literal["delivery", "asset", "license", "revocation", "every_asset"] | None = None,
    /,
    *,
    json: Json = True,
) -> None:
    """Print a filled, valid example of a delivery, an asset, a licence and a revocation, or of one of them.

    Example: pardalis contract template license > images/licenses.jsonl

    Parameters
    ----------
    record
        One record, on one line as ``.jsonl`` files want it; every_asset is what a delivery states of all.
    json
        Taken for the sake of scripts; the answer is JSON with it and without.
    """
    if record is None:
        answer(contract.template(), "", json=json)
        return
    found = {**contract.template(), "every_asset": EVERY_ASSET}[record]
    sys.stdout.write(json_text.dumps(found, ensure_ascii=False) + "\n")


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class SealOptions:
    provider: str
    """Who delivers: lower-case letters, digits and dashes. Asset ids are the provider's own."""
    form: Form | None = None
    """How the samples come. Without it: tars are WebDataset (with Parquet beside them img2dataset), a CSV or
    Parquet table holds the contract's own columns, and anything else is a folder with sidecars."""
    sequence: int = 0
    """Number of the delivery; a provider's next is one more."""
    kind: Literal["full", "delta", "correction", "revocation"] | None = None
    """Default: full for number 0, else delta. A revocation is a revocations.jsonl, with or without images."""
    every_asset: Path | None = None
    """JSON file with what holds for every asset that does not say otherwise itself; `pardalis contract
    template every_asset` prints an example."""
    license_id: tuple[str, ...] = ()
    """Licences that every asset comes under, by their ids in licenses.jsonl; joins --every-asset."""
    allowed_hosts: tuple[str, ...] = ()
    """Hosts of images at https addresses."""
    allowed_buckets: tuple[str, ...] = ()
    """Buckets of images at s3 addresses."""
    json: Annotated[bool, Parameter(negative="")] = False
    """Print delivery.json itself."""

    def statement(self) -> seal.Statement:
        if self.kind not in (None, "full") and not self.sequence:
            told = f"a {self.kind} follows another delivery"
            raise ValueError(f"{told}; say which number it has with --sequence")
        common = read_statement(self.every_asset)
        licensed = {"license_ids": list(self.license_id)} if self.license_id else {}
        return seal.Statement(
            provider=self.provider,
            sequence=self.sequence,
            kind=self.kind or ("delta" if self.sequence else "full"),
            created_at=datetime.now(UTC).replace(microsecond=0),
            every_asset={**common, **licensed},
            allowed_hosts=self.allowed_hosts,
            allowed_buckets=self.allowed_buckets,
        )


def seal_folder(folder: str, /, *, options: SealOptions) -> None:
    """Make a delivery of a folder or an s3:// place: hash every file and write delivery.json.

    Example: pardalis contract seal images --provider me --every-asset mine.json

    Parameters
    ----------
    folder
        Where the images, tables or tars lie, beside licenses.jsonl.
    """
    store = Store.at(folder)
    names = store.names()
    delivery = seal.seal(store, options.form or seal.guess(names), options.statement())
    told = f"{store.uri}: delivery {delivery.delivery_id}, form {delivery.form}, {len(delivery.files)} files"
    if left := list(filter(listing.left_behind, names)):
        told += f"\nleft out {len(left)} files of the operating system, such as {left[0]!a}"
    answer(delivery.model_dump(mode="json", by_alias=True), told, json=options.json)


def read_statement(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    found = guarded.loads(path.read_bytes(), file=str(path))
    match found:
        case dict():
            return found
    raise ValueError(f"{path} is no JSON object; write fields of the asset record")


def example(
    name: Literal["emoji", "openclipart"],
    folder: str,
    /,
    *,
    source: Path = OPENCLIPART,
    json: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Write a real, licensed delivery to try things with.

    Example: pardalis contract example emoji delivery && pardalis ingest delivery --check

    Parameters
    ----------
    name
        emoji: 3,374 pictures from two npm packages. openclipart: 7,458 drawings of Debian's packages
        openclipart-svg and openclipart-png, 69 of them without a licence that grants training.
    folder
        An empty folder or s3:// place for the delivery.
    source
        Where the packages of openclipart were installed.
    json
        Print ``delivery.json`` itself.
    """
    store = Store.at(folder)
    if store.names():
        raise ValueError(f"{store.uri} is not empty; name a new place for the delivery")
    delivery = (
        emoji.deliver(store, emoji.fetched()) if name == "emoji" else openclipart.deliver(store, source)
    )
    told = f"{store.uri}: delivery {delivery.delivery_id} of {delivery.counts['samples']} assets"
    answer(delivery.model_dump(mode="json", by_alias=True), told, json=json)
