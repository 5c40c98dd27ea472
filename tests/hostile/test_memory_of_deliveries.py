"""Small files that become large objects: each delivery is checked with little more than the imports take."""

from __future__ import annotations

import io
import json
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from infra.storage import Store
from tests.pipeline.agencies import JUDGED, Parcel

from .made import AS_OF, PNG, tarred

pytestmark = [
    pytest.mark.long,
    pytest.mark.timeout(300),
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc"),
]
MIB = 1 << 20
MOST = 200 * MIB
"""What a gibibyte leaves over the imports; a delivery of one sample takes 50 of them."""
# All in one process, since each takes 5 s to import what it needs; the peak is set back before each, and what
# the one before left to glibc, which may be 30 MiB, is given back: it is not this one's.
JOB = """
import ctypes
import gc
import sys
from pathlib import Path
import pipeline.jobs
from infra.cli import run
def held(what):
    return int(Path("/proc/self/status").read_text().partition(what)[2].split()[0]) * 1024
imported = held("VmRSS:")
for path in sys.argv[2:]:
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    code = run(["ingest", path, "--check", "--as-of", sys.argv[1]])
    print("HELD", code, held("VmHWM:") - imported)
"""


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def exif(num_bytes: int) -> bytes:
    """A directory whose texts, XMP and IPTC are all the rest of the block, with a letter of four bytes."""
    kinds = ((0x010E, 2), (0x013B, 2), (0x8298, 2), (0x02BC, 1), (0x83BB, 1))
    entries = b"".join(struct.pack("<HHII", tag, kind, num_bytes - 80, 80) for tag, kind in kinds)
    head = b"II*\0" + struct.pack("<IH", 8, len(kinds)) + entries
    return head.ljust(80, b"\0") + "\U0001f600".encode() + b"A" * (num_bytes - 84)


def beside(image: bytes) -> Parcel:
    files = {"a.png": image, "a.json": b'{"description": "x"}'}
    return Parcel(form="folder", files=files, roles={"a.json": "sidecar"}, every_asset=JUDGED)


def pictured() -> Parcel:
    """15 blocks of 2 MiB, of which three texts each were held at four bytes a character."""
    return beside(PNG[:33] + chunk(b"eXIf", exif(2 * MIB)) * 15 + PNG[33:])


def shard(*names: str, num_bytes: int) -> Parcel:
    return Parcel(form="webdataset", files={"a.tar": tarred(dict.fromkeys(names, bytes(num_bytes)))})


def six_of_one_key() -> Parcel:
    return shard(*(f"k.{kind}" for kind in ("jpeg", "jpg", "json", "png", "txt", "webp")), num_bytes=32 * MIB)


def the_largest_image() -> Parcel:
    return shard("k.jpg", num_bytes=96 * MIB)


def page(document: str) -> Parcel:
    return Parcel(form="shutterstock_api", files={"images.json": document.encode()}, every_asset=JUDGED)


def nested(num_values: int, depth: int = 11) -> str:
    return ",".join(['{"":' * depth + "1" + "}" * depth] * (num_values // depth))


def two_million_values() -> Parcel:
    return page(f'[{{"id": "1", "x": [{nested(2_000_000)}]}}]')


def as_many_values_as_are_read() -> Parcel:
    return page(f'[{{"id": "1", "x": [{nested(240_000)}]}}]')


def parquet(**columns: list[str]) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink, compression="snappy", store_schema=False)
    return sink.getvalue()


def downloaded() -> Parcel:
    """Some 100 KB that say 4 GB."""
    num = 30_000
    told = {"error_message": ["e" * 60_000] * num, "url": ["u" * 60_000] * num}
    keys = [f"{i:09d}" for i in range(num)]
    listing = parquet(key=keys, status=["failed_to_download"] * num, **told)
    return Parcel(form="img2dataset", files={"00000.tar": tarred({}), "00000.parquet": listing})


def wide_rows() -> Parcel:
    """60 rows of 450,000 characters, of which one takes four bytes, out of a dictionary of one."""
    cells = {f"c{i}": ["\U0001f600" + "\u00e9" * 32_000] * 60 for i in range(14)}
    table = parquet(asset_id=[f"a{i}" for i in range(60)], **cells)
    return Parcel(form="manifest", files={"assets.parquet": table}, every_asset=JUDGED)


def csv(text: bytes) -> Parcel:
    return Parcel(form="manifest", files={"assets.csv": text}, every_asset=JUDGED)


def a_row_of_ten_million_cells() -> Parcel:
    return csv(b"asset_id," + b"ab," * 10_000_000)


def one_long_cell() -> Parcel:
    return csv("asset_id,description\n1,\U0001f600".encode() + b"x" * (31 * MIB))


QUICK = (
    pictured,
    six_of_one_key,
    the_largest_image,
    two_million_values,
    as_many_values_as_are_read,
    downloaded,
    wide_rows,
    a_row_of_ten_million_cells,
    one_long_cell,
)


def held(root: Path, *cases: Callable[[], Parcel]) -> dict[str, int]:
    """The most memory that the check of each took, over what the imports do."""
    folders = [root / case.__name__ for case in cases]
    for case, folder in zip(cases, folders, strict=True):
        case().write(Store.at(folder))
    command = [sys.executable, "-c", JOB, AS_OF, *map(str, folders)]
    job = subprocess.run(command, capture_output=True, text=True, check=True)
    told = [line.split() for line in job.stdout.splitlines() if line.startswith("HELD ")]
    assert {code for _, code, _ in told} <= {"0", "2"}, job.stderr
    return {folder.name: int(num) for folder, (_, _, num) in zip(folders, told, strict=True)}


def test_no_small_file_becomes_more_than_fits_beside_the_imports(tmp_path: Path) -> None:
    taken = held(tmp_path, *QUICK)
    assert max(taken.values()) < MOST, {name: num // MIB for name, num in taken.items()}


def test_a_manifest_of_as_many_values_as_are_read_is_refused_within_the_same(tmp_path: Path) -> None:
    """Raw, since it lists nothing: as objects, and at fault in every one of its files."""
    texts = {
        "nested": f'{{"x": [{nested(380_000, 14)}]}}',
        "at_fault": '{"files": [' + ",".join(["{}"] * 190_000) + "]}",
        "named": json.dumps({"files": [], "supersedes": ["x"] * 390_000}),
    }
    for name, text in texts.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "delivery.json").write_text(text)
    command = [sys.executable, "-c", JOB, AS_OF, *(str(tmp_path / name) for name in texts)]
    job = subprocess.run(command, capture_output=True, text=True, check=True)
    told = [line.split() for line in job.stdout.splitlines() if line.startswith("HELD ")]
    assert [code for _, code, _ in told] == ["2"] * len(texts)
    assert max(int(num) for *_, num in told) < MOST


@pytest.mark.slow
def test_a_tar_of_as_many_bad_records_as_are_read_fits_too(tmp_path: Path) -> None:
    """Each with 50 faults: 60,000 such took 1.4 GiB over the imports."""
    bad = json.dumps({f"k{i}": i for i in range(50)}).encode()

    def records() -> Parcel:
        files = {f"{i:07d}.json": bad for i in range(40_000)}
        return Parcel(form="webdataset", files={"a.tar": tarred(files)})

    assert held(tmp_path, records)["records"] < MOST
