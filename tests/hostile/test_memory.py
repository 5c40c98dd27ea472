"""Bombs within the limits: the largest pictures that are admitted are decoded in under 1 GiB."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from pathlib import Path

import pytest

from infra.corpus import Corpus
from infra.storage import Store
from pipeline.explaining import catalog_rows

from .made import AS_OF, Parcel, sample, tarred
from .pictures import (
    all_pictures,
    bomb_400_megapixels,
    icc_bomb,
    many_texts,
    png,
    text_bomb,
    webp_of_16k,
    zeros,
)

GIB = 1 << 30
# A process of its own: the peak of ours is that of all tests before. VmHWM and not ru_maxrss, which a child
# takes over from whoever started it.
CHILD = """
import resource, sys
from pathlib import Path
from tokenizer_service import images
resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
for path in sys.argv[1:]:
    try:
        print(images.decode(Path(path).read_bytes(), at_least=512).shape)
    except images.Undecodable as error:
        print("refused:", error)
status = Path("/proc/self/status").read_text()
print(int(status.partition("VmHWM:")[2].split()[0]) * 1024)
"""
REFUSED = {
    "400_megapixels": bomb_400_megapixels,
    "profile": icc_bomb,
    "text": text_bomb,
    "texts": many_texts,
    "webp": webp_of_16k,
}


def decoded(*paths: Path) -> tuple[list[str], int]:
    """What became of each file, and the most memory that the process held."""
    command = [sys.executable, "-c", CHILD, *map(str, paths)]
    said = subprocess.run(command, capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stderr
    *told, peak = said.stdout.splitlines()
    return told, int(peak)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_bombs_are_refused_before_they_are_unpacked(tmp_path: Path) -> None:
    for name, bomb in REFUSED.items():
        (tmp_path / name).write_bytes(bomb())
    told, peak = decoded(*sorted(tmp_path.iterdir()))
    assert all(line.startswith("refused: ") for line in told), told
    assert peak < GIB // 2


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_largest_picture_with_transparency_is_decoded_in_a_gibibyte(tmp_path: Path) -> None:
    path = tmp_path / "120-megapixels.png"
    path.write_bytes(png(12_000, 10_000, color=6, data=zeros(10_000 * 48_001)))
    told, peak = decoded(path)
    assert told == ["(10000, 12000, 3)"]
    assert peak < GIB


DECODER = b"pipeline.looking:look"
JOB = """
import sys
from pathlib import Path
def peak():
    return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) * 1024
import pipeline.jobs
from infra.cli import run
imported = peak()
code = run(sys.argv[1:])
print(imported, peak())
sys.exit(code)
"""


def held(pid: int) -> int:
    """The most memory that the process has held so far."""
    told = Path(f"/proc/{pid}/status").read_text().partition("VmHWM:")[2].split()
    return int(told[0]) * 1024 if told else 0


def decoder_of(pid: int) -> int:
    """What the decoder that the process started has held; nothing where there is none, or no more."""
    found = 0
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            # Until it has become a program of its own, a child has its parent's memory, and its words.
            if DECODER in Path(f"/proc/{child}/cmdline").read_bytes():
                found = max(found, held(int(child)))
    return found


def everything() -> dict[str, bytes]:
    """Every hostile picture, and the largest that is admitted."""
    members: dict[str, bytes] = {}
    for key, (image, extension, _, _) in all_pictures().items():
        members |= sample(key, image, extension)
    return members | sample("largest", png(12_000, 10_000, color=6, data=zeros(10_000 * 48_001)))


@pytest.mark.timeout(300)
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_hostile_pictures_and_the_largest_are_ingested_with_a_decoder_of_under_a_gibibyte(
    tmp_path: Path,
) -> None:
    Parcel(tmp_path / "delivery").good(tarred(everything()))
    paths = ["ingest", str(tmp_path / "delivery"), "--corpus", str(tmp_path / "corpus")]
    command = [sys.executable, "-c", JOB, *paths, "--as-of", AS_OF, "--engine", "inline"]
    decoder = 0
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as job:
        while job.poll() is None:
            decoder = max(decoder, decoder_of(job.pid))
            time.sleep(0.05)
        assert job.stdout is not None
        *_, told = job.stdout.read().splitlines()
    assert job.returncode == 0
    corpus = Corpus(Store.at(tmp_path / "corpus"))
    (row,) = catalog_rows(corpus, corpus.newest(), "acme:largest")
    assert (row["outcome"], row["width"]) == ("kept", 12_000)
    assert GIB // 2 < decoder < GIB, "the largest picture was seen while it was decoded"
    imported, peak = map(int, told.split())
    assert peak - imported < GIB // 8
    assert peak < GIB
