"""The trainer's code on a CUDA device: the same numbers as on the CPU, with the kernels that only it has."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch

from tests.trainer.test_loop import LIVE, SECTION, Words, config, held_out
from trainer import attention, budget, loop
from trainer.checkpoint import Checkpoints
from trainer.loop import Streams

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(600)]


def losses(folder: Path, device: str, **words: object) -> list[Mapping[str, float]]:
    settings = config(6, **words)
    # Heads of 32: FlexAttention takes none below 16.
    section = SECTION.model_copy(update={"dropout": 0.0, "width": 64})
    settings = settings.model_copy(update={"model": section})
    model = budget.meta(settings.model, LIVE)
    if device == "cpu":
        model = loop.first_weights(model, torch.device("cpu"), settings.seed)
    reports: list[Mapping[str, float]] = []
    loop.fit(
        model,
        Streams(train=Words(), validation={"alone": held_out}),
        settings.recipe({}),
        report=reports.append,
        checkpoints=Checkpoints(folder=folder),
    )
    return reports


@pytest.mark.parametrize(
    ("words", "rel"),
    [
        ({}, 1e-3),
        ({"engine": "compile"}, 1e-3),
        ({"dtype": "bfloat16", "engine": "compile", "recompute": "blocks"}, 3e-2),
    ],
)
def test_a_run_on_a_device_has_the_losses_of_the_cpu(
    tmp_path: Path, words: dict[str, object], rel: float
) -> None:
    here = losses(tmp_path / "cpu", "cpu")
    there = losses(tmp_path / "cuda", "cuda", **words)
    assert [one["loss"] for one in there] == pytest.approx([one["loss"] for one in here], rel=rel)
    assert there[-1]["speed/memory_mib"] > 0


def test_flex_attention_sees_what_the_dense_mask_sees() -> None:
    documents_BT = torch.tensor([[0] * 100 + [1] * 140 + [-1] * 16, [0] * 256], device="cuda")
    q, k, v = (torch.randn(2, 4, 256, 64, device="cuda") for _ in range(3))
    flex, dense = (
        attention.attend(q, k, v, attention.mask(documents_BT, kind)) for kind in ("flex", "dense")
    )
    real = (documents_BT >= 0)[:, None, :, None]
    assert torch.allclose(torch.where(real, flex, 0), torch.where(real, dense, 0), atol=1e-2)
