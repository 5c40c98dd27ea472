"""Canaries: credentials planted in records, and the search for them in all that commands said and wrote."""

from __future__ import annotations

import csv
import io
import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyarrow.parquet as pq
import pytest

from infra.cli import run
from infra.storage import Store
from pipeline.deliveries import seal, table
from tests.hostile.made import PNG, Parcel, encoded, license_, lines, picture, record, tarred

MARK = "Canary"
"""Begins every canary, so that half of one is found too."""
QUERY = f"X-Amz-Credential={MARK}5&X-Amz-Signature={MARK}6"
SIGNED = f"https://images.example/a.jpg?{QUERY}"
ADDRESS = f"https://user:{MARK}7@images.example/a.jpg?{QUERY}"
ESCAPED = rf"https:\/\/user:{MARK}7@images.example\/a.jpg?{QUERY}"
"""As PHP's ``json_encode`` spells it."""
ENCODED = f"https://images.example/a.jpg%3F{quote(QUERY)}"
"""As a link in a link spells it."""


@dataclass(frozen=True, slots=True)
class Watched:
    """A terminal, and the folder below which everything is written."""

    root: Path
    capfd: pytest.CaptureFixture[str]

    @property
    def corpus(self) -> str:
        return str(self.root / "corpus")

    def run(self, *words: str | Path) -> tuple[int, str, str]:
        """(exit code, answer, messages), of which none is a canary; nor is anything that lies there now."""
        code = run([str(word) for word in words])
        return code, *self.said()

    def said(self) -> tuple[str, str]:
        out, err = self.capfd.readouterr()
        assert MARK not in out + err, out + err
        assert found(self.root) == []
        return out, err

    def on_corpus(self, *words: str | Path) -> tuple[int, str, str]:
        return self.run(*words, "--corpus", self.corpus)


def found(folder: Path) -> list[str]:
    """The files that hold a canary, in the names or the bytes; tables are read, since they are compressed."""
    return [
        str(path) for path in sorted(folder.rglob("*")) if path.is_file() and MARK in f"{path} {told(path)}"
    ]


def told(path: Path) -> str:
    data = path.read_bytes()
    table = str(pq.read_table(io.BytesIO(data)).to_pylist()) if path.suffix == ".parquet" else ""
    return table + data.decode("latin-1")


def pixels(number: int) -> bytes:
    return encoded(picture(number))


def wrong(key: str, image: bytes) -> Iterator[dict[str, Any]]:
    """Records that each say a credential where none belongs, all under the same key."""
    good = record(key, image)
    yield {**good, "file": {**good["file"], "uri": ADDRESS}}
    for field in ("credit_line", "description", "title", "copyright_notice"):
        yield {**good, field: f"by {ADDRESS} and others"}
    for field in ("is_adult", "provider", "delivery_id", "date_created", "license_ids", "releases"):
        yield {**good, field: ADDRESS}
    yield {**good, "license_ids": [ADDRESS]}
    yield {**good, "keywords": ["red", ADDRESS]}
    yield {**good, "title": f'{{"uri": "{ESCAPED}"}}'}
    yield {**good, "made_by": f'{{"uri": "{ESCAPED}"}}, see {ENCODED}'}
    yield {**good, "location": {"text": f"password = {MARK}8"}}
    yield {**good, "aws_secret_access_key": f"{MARK}9"}


NUM_WRONG = len([*wrong("", PNG)])


def wrong_records() -> Iterator[tuple[dict[str, Any], bytes]]:
    for i in range(NUM_WRONG):
        yield [*wrong(f"w{i:02d}", pixels(i))][i], pixels(i)


def kept_record(**file: Any) -> dict[str, Any]:
    """With credentials where they do no harm: the record is kept, and they are not."""
    extra = {"source": ADDRESS, "token": f"{MARK}3", "page": "https://a.example/?id=7"}
    extra |= {"escaped": f'{{"uri": "{ESCAPED}"}}', "encoded": ENCODED, "header": f"Cookie: id={MARK}4"}
    # Words that are not known to sign: they are dropped with the rest of the query.
    credit_line = f"by https://images.example/a.jpg?key={MARK}1&sign={MARK}2"
    asset = record("kept", PNG, extra=extra, credit_line=credit_line)
    return {**asset, "file": {**asset["file"], **file}}


def as_tar() -> bytes:
    members = {"kept.json": json.dumps(kept_record(uri=SIGNED)).encode(), "kept.png": PNG}
    for i, (asset, image) in enumerate(wrong_records()):
        members |= {f"w{i:02d}.json": json.dumps(asset).encode(), f"w{i:02d}.png": image}
    members |= {"x.json": json.dumps({**record("x"), ADDRESS: 1}).encode(), "x.png": PNG}
    members |= {"y.json": f'{{"{ADDRESS}": 1, "{ADDRESS}": 1}}'.encode(), "y.png": PNG}
    members |= {"z.json": json.dumps(record("z")).encode(), "z.png": PNG, "z.txt": ADDRESS.encode()}
    return tarred(members)


def as_table(parcel: Parcel) -> None:
    """The same as rows, without that of an image at an address."""
    records = [(kept_record(), PNG), *itertools.islice(wrong_records(), 1, None)]
    rows = [{"path": f"images/{i}.png", **table.cells(asset)} for i, (asset, _) in enumerate(records)]
    put_table(parcel, rows)
    for i, (_, image) in enumerate(records):
        parcel.put(f"images/{i}.png", image)
    sealed(parcel)


def put_table(parcel: Parcel, rows: list[dict[str, Any]]) -> None:
    sink = io.StringIO(newline="")
    writer = csv.DictWriter(sink, list(dict.fromkeys(name for row in rows for name in row)))
    writer.writeheader()
    writer.writerows(rows)
    parcel.put("assets.csv", sink.getvalue().encode())


def sealed(parcel: Parcel) -> None:
    parcel.put("licenses.jsonl", lines(license_()))
    statement = seal.Statement(
        provider="acme", sequence=0, kind="full", created_at=datetime(2026, 5, 1, tzinfo=UTC), every_asset={}
    )
    seal.seal(Store.at(parcel.folder), "manifest", statement)


def records_in(corpus: str) -> dict[str, dict[str, Any]]:
    """By uid: the record that was kept, or its fault."""
    store = Store.at(corpus)
    names = (name for name in store.names("shards/records/") if name.endswith("records.parquet"))
    return {
        row["uid"]: row for name in names for row in pq.read_table(io.BytesIO(store.read(name))).to_pylist()
    }
