"""Photographs to training shards: pardalis against img2dataset, whole runs over the same files, in turns.

2,000 JPEGs of 2 to 12 megapixels (``photographs``), and the 400 px ones that they were made of, become 256 px
JPEGs of quality 95 in WebDataset tars. Each run is a process of its own. What counts is its CPU time with
that of its children, less what the same takes for 16 files: starting and importing.

``ours`` is the images step: it reads the files, checks their sha256, decodes in the guarded child, resizes,
encodes, measures each picture for filters and duplicates, and writes notices, tars and catalog rows. The
peer, img2dataset 1.47.0 with ``file://`` addresses, reads, hashes, decodes, resizes, encodes, and writes tars
and tables. ``ratio_of_all`` takes all that ``pardalis ingest`` does: records and rights too.

``outside_decode_resize_encode`` is the images step's share by clocks around those three, where they run;
``beside_the_bare_loop`` compares the step with a loop of them in another process, which has its caches alone.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from infra.guarded import isolated
from pipeline import template
from tests.benchmarks import photographs
from tokenizer_service import metrics, sizes

SIDE, QUALITY, FEW, ROUNDS = 256, 95, 16, 3
NUM = int(os.environ.get("PARDALIS_BENCH_IMAGES", "2000"))
SCORED = 100
"""Pictures whose PSNR against a full decode and Lanczos is taken."""
STEPS = ("fold", "records", "decide", "images")


def sealed(name: str, paths: Iterable[Path]) -> Path:
    """A delivery of these files, made once."""
    folder = photographs.folder() / name
    if (folder / "delivery.json").exists():
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for number, path in enumerate(paths):
        os.link(path, folder / f"{number:05d}.jpg")
    (folder / "licenses.jsonl").write_text(json.dumps(template.LICENSE) + "\n")
    common = folder.with_suffix(".json")
    common.write_text(json.dumps({**template.EVERY_ASSET, "description": "a photograph"}))
    command = [
        "pardalis",
        "contract",
        "seal",
        str(folder),
        "--provider",
        "acme",
        "--every-asset",
        str(common),
    ]
    subprocess.run([str(Path(sys.executable).with_name(command[0])), *command[1:]], check=True)
    return folder


def run_once(mode: str, folder: Path, out: Path) -> dict[str, Any]:
    shutil.rmtree(out, ignore_errors=True)
    words = [mode, str(folder), str(out), str(SIDE), str(QUALITY)]
    command = [sys.executable, "-m", "tests.benchmarks.ingesting", *words]
    # The bare loop gets what the guarded child has, so that it is no slower than what it is a part of.
    environment = {**os.environ, **(isolated.MALLOC if mode == "kernel" else {})}
    done = subprocess.run(
        command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def milliseconds(many: dict[str, Any], few: dict[str, Any], parts: Iterable[str], num: int) -> float:
    """CPU of one picture."""
    spent = sum(many[part]["cpu_s"] - few[part]["cpu_s"] for part in parts)
    return 1000 * spent / (num - FEW)


def compared(kind: str, paths: list[Path]) -> dict[str, Any]:
    """Medians over paired rounds; each round runs the three one after the other."""
    whole, few = sealed(f"{kind}-{len(paths)}", paths), sealed(f"{kind}-{FEW}", paths[:FEW])
    out = photographs.folder() / "out"
    rounds = []
    for _ in range(ROUNDS):
        found = {
            mode: (run_once(mode, whole, out / mode), run_once(mode, few, out / f"{mode}-few"))
            for mode in ("steps", "peer", "kernel")
        }
        assert found["peer"][0]["peer"]["rows"] == len(paths)
        assert found["steps"][0]["images"]["rows"] == len(paths)
        step = milliseconds(*found["steps"], ["images"], len(paths))
        every = milliseconds(*found["steps"], STEPS, len(paths))
        peer = milliseconds(*found["peer"], ["peer"], len(paths))
        within = milliseconds(*found["steps"], ["within"], len(paths))
        bare = milliseconds(*found["kernel"], ["kernel"], len(paths))
        shares = (1 - within / step, 1 - bare / step)
        rounds.append((peer / step, peer / every, *shares, step, every, peer, within, bare))
    ratio, ratio_of_all, outside, beside, step, every, peer, within, bare = np.median(
        np.array(rounds), axis=0
    ).tolist()
    return {
        "ratio": round(ratio, 2),
        "ratio_of_all": round(ratio_of_all, 2),
        "outside_decode_resize_encode": round(outside, 3),
        "beside_the_bare_loop": round(beside, 3),
        "cpu_ms": {
            "images_step": round(step, 2),
            "pardalis_ingest": round(every, 2),
            "img2dataset": round(peer, 2),
            "decode_resize_encode_within": round(within, 2),
            "bare_loop": round(bare, 2),
        },
        "ratio_of_each_round": [round(one[0], 2) for one in rounds],
    }


def psnr(paths: list[Path]) -> dict[str, float]:
    """Mean over pictures, of what the last runs wrote."""
    out = photographs.folder() / "out"
    mine = pictures(out / "steps", key=lambda stem: int(stem.rpartition("_")[2]))
    theirs = pictures(out / "peer", key=int)
    found: dict[str, list[float]] = {"ours": [], "peer": []}
    for number, path in list(enumerate(paths))[:SCORED]:
        with Image.open(path) as opened:
            picture = opened.convert("RGB")
        size = sizes.shrunk(*picture.size, SIDE)
        true_HWC = np.asarray(picture.resize(size, Image.Resampling.LANCZOS))
        for name, data in (("ours", mine[number]), ("peer", theirs[number])):
            found[name].append(compared_to(true_HWC, data))
    return {name: round(float(np.mean(values)), 2) for name, values in found.items()}


def compared_to(true_HWC: NDArray[np.uint8], data: bytes) -> float:
    with Image.open(io.BytesIO(data)) as opened:
        seen_HWC = np.asarray(opened.convert("RGB"))
    if seen_HWC.shape != true_HWC.shape:  # img2dataset rounds a side down
        height, width = (min(pair) for pair in zip(seen_HWC.shape[:2], true_HWC.shape[:2], strict=True))
        seen_HWC, true_HWC = seen_HWC[:height, :width], true_HWC[:height, :width]
    return float(metrics.psnr_each(true_HWC[None], seen_HWC[None])[0])


def pictures(folder: Path, key: Any) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    for path in sorted(folder.rglob("*.tar")):
        with tarfile.open(path) as tar:
            for member in tar.getmembers():
                if member.name.endswith(".jpg"):
                    file = tar.extractfile(member)
                    assert file is not None
                    found[key(member.name.removesuffix(".jpg"))] = file.read()
    return found


def run() -> dict[str, Any]:
    paths = photographs.large(NUM)
    large = compared("large", paths)
    scores = psnr(paths)
    small = compared("small", photographs.files(NUM))
    return {
        "unit": "images per CPU second",
        "ours": round(1000 / large["cpu_ms"]["images_step"], 1),
        "peer": round(1000 / large["cpu_ms"]["img2dataset"], 1),
        "peer_name": "img2dataset 1.47.0",
        "ratio": large["ratio"],
        "details": {
            "side": SIDE,
            "quality": QUALITY,
            "photographs": f"{NUM} of 2 to 12 MP, {'real ones enlarged' if photographs.real() else 'drawn'}",
            "rounds": ROUNDS,
            "psnr_db": scores,
            "large": large,
            "400 px": small,
        },
    }
