"""Images a second through the tokenizer: against plain PyTorch, and the Ray stage against a bare loop.

The peer of the encoder is the same architecture as its authors wrote it: eager, float32, places last. Its
body is the reference of the tests. Rounds alternate, so that a busy machine slows both. PARDALIS_VQ_SIDE sets
the pixels a side (128), PARDALIS_VQ_ROUNDS the rounds (3). bfloat16 is tried where the processor has
instructions for it.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from tests.benchmarks import vq_stage
from tests.tokenizer_service import published
from tests.tokenizer_service.published import Description
from tokenizer_service import checkpoints, coding, layouts, vq
from tokenizer_service.coding import Numerics

PAPER = Description(
    names="llamagen", multipliers=(1, 2, 2, 4), attends=(3,), channels=128, z=256, dim=8, codes=8192
)
"""The preset ``cm3leon-256-f8``."""
BATCHES = (1, 32)


def run() -> dict[str, Any]:
    rates, stage = encode_rates(), vq_stage.stage_rates()
    best = max(
        (found for name, found in rates.items() if name.startswith("batch 32")),
        key=lambda found: found["ratio"],
    )
    return {
        "unit": "encoded images/s, 32 at a time",
        "ours": best["ours"],
        "peer": best["peer"],
        "peer_name": "the same architecture in plain eager float32 PyTorch",
        "ratio": best["ratio"],
        "details": {"encoder": rates, "stage": stage},
    }


def encode_rates() -> dict[str, dict[str, float]]:
    """Images a second, ours and the peer's, and the ratio of the medians, for each batch and dtype."""
    side, rounds = (
        int(os.environ.get("PARDALIS_VQ_SIDE", "128")),
        int(os.environ.get("PARDALIS_VQ_ROUNDS", "3")),
    )
    state = published.state(PAPER)
    config = layouts.config_of(layouts.shapes_of(state), "llamagen")
    model = vq.filled(config, None, checkpoints.translated(state, config, "llamagen"))
    generator = np.random.default_rng(0)
    found = {}
    for batch in BATCHES:
        images_BHWC = generator.integers(0, 256, (batch, side, side, 3), dtype=np.uint8)
        for dtype in dtypes():
            numerics = Numerics(dtype=dtype, batch_images=batch)
            ours, peer = paired(
                lambda images=images_BHWC, how=numerics: coding.encode_images(model, images, numerics=how),
                lambda images=images_BHWC: plain(state, images),
                rounds=rounds,
            )
            found[f"batch {batch} {dtype}"] = {
                "ours": round(batch / ours, 3),
                "peer": round(batch / peer, 3),
                "ratio": round(peer / ours, 3),
            }
    return {"side": {"pixels": side}, **found}


def dtypes() -> list[str]:
    """bfloat16 where the processor multiplies it; elsewhere it takes eight times as long, and is left out."""
    information = Path("/proc/cpuinfo")
    flags = information.read_text() if information.exists() else ""
    return ["float32", *(["bfloat16"] if "amx_bf16" in flags or "avx512_bf16" in flags else [])]


@torch.inference_mode()
def plain(state: published.State, images_BHWC: NDArray[np.uint8]) -> NDArray[np.int64]:
    pixels = torch.from_numpy(images_BHWC).permute(0, 3, 1, 2).contiguous().float() / 127.5 - 1
    features = published.features(state, PAPER, pixels)
    z = functional.conv2d(features, state["quant_conv.weight"], state["quant_conv.bias"])
    z = functional.normalize(z.permute(0, 2, 3, 1).reshape(-1, PAPER.dim), dim=1)
    codebook = functional.normalize(state["quantize.embedding.weight"], dim=1)
    away = z.square().sum(dim=1, keepdim=True) + codebook.square().sum(dim=1) - 2 * z @ codebook.T
    return away.argmin(dim=1).view(len(pixels), -1).numpy()


def paired(ours: Callable[[], object], peer: Callable[[], object], *, rounds: int) -> tuple[float, float]:
    """Median seconds of each, in turn, after one round that does not count."""
    seconds: tuple[list[float], list[float]] = ([], [])
    for i in range(rounds + 1):
        for kept, action in zip(seconds, (ours, peer), strict=True):
            started = time.perf_counter()
            action()
            if i:
                kept.append(time.perf_counter() - started)
    return statistics.median(seconds[0]), statistics.median(seconds[1])
