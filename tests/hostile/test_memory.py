"""Bombs within the limits: the largest pictures that are admitted are decoded in under 1 GiB."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from .pictures import bomb_400_megapixels, icc_bomb, many_texts, png, text_bomb, webp_of_16k, zeros

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
