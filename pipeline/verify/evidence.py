"""What is known of the revoked assets, gathered before they are erased; nobody can look it up afterwards.

The surprising rule: the file holds the very content that is to vanish. It is readable by its owner alone,
lies outside of the corpus, and is deleted when the proof is done.
"""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

FORMAT = b"pardalis-evidence/2"
KINDS = {
    "id": "a name of the asset: note says which (uid, key, bare, example)",
    "digest": "sha256 of something of it, 32 bytes",
    "text": "words of it, UTF-8",
    "blob": "a piece of its picture or of what was measured of it, as stored",
    "codes": "hashes of all runs of its image codes or text ids, uint64; note: length of a run",
    "vector": "one of its vectors, float32",
    "integer": "a number that few others have, uint64: a perceptual hash",
    "index_id": "its id in the index, int64",
    "field": "a value that no row may hold; note: contributor, license, delivery or model_release",
    "unseen": "of which nothing can be looked for; value: why",
    "survivors": "first 8 bytes of the sha256 of each uid that stays, with its provider and without, sorted, "
    "uint64",
    "newest_id": "the highest id of the index, int64; whatever has a higher one came later",
    "rows": "the same of those that had rows in artifacts of a kind; note: the kind",
    "target": "sha256 of a target of the revocations that this was gathered for",
}
SCHEMA = pa.schema(
    [
        pa.field("kind", pa.string(), nullable=False),
        pa.field("uid", pa.string(), nullable=False),
        pa.field("note", pa.string(), nullable=False),
        pa.field("value", pa.binary(), nullable=False),
    ],
    metadata={"format": FORMAT},
)
LARGEST = 4 << 30


@dataclass(frozen=True, slots=True)
class Item:
    kind: str
    uid: str
    note: str
    value: bytes


def write(path: Path, items: Sequence[Item]) -> None:
    """For its owner's eyes alone; ValueError if there is a file already."""
    rows = {
        "kind": [item.kind for item in items],
        "uid": [item.uid for item in items],
        "note": [item.note for item in items],
        "value": pa.array([item.value for item in items], pa.binary()),
    }
    sink = io.BytesIO()
    pq.write_table(pa.table(rows, schema=SCHEMA), sink, compression="zstd")
    try:
        number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise ValueError(f"--collect {path} exists; name another file, or delete it") from None
    except OSError as error:
        raise ValueError(f"--collect {path}: {error.strerror}; name a file that can be written") from None
    with os.fdopen(number, "wb") as file:
        file.write(sink.getbuffer())


def read(path: Path) -> list[Item]:
    """ValueError for anything but what :func:`write` wrote."""
    fix = "give the file that `pardalis verify --collect` wrote"
    try:
        if path.stat().st_size > LARGEST:
            raise ValueError(f"--evidence {path} has over {LARGEST} bytes; {fix}")
        with pq.ParquetFile(path) as file:
            if (file.schema_arrow.metadata or {}).get(b"format") != FORMAT:
                raise ValueError(f"--evidence {path} is Parquet of something else; {fix}")
            table = file.read()
    except OSError as error:
        raise ValueError(f"--evidence {path}: {error.strerror or error}; {fix}") from None
    except pa.ArrowException as error:
        raise ValueError(f"--evidence {path} cannot be read: {error}; {fix}") from None
    columns = [table[name].to_pylist() for name in SCHEMA.names]
    return [Item(*row) for row in zip(*columns, strict=True)]
