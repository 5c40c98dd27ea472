"""One graph a step draws what the eager sampler draws: here without a GPU, and captured on one."""

from __future__ import annotations

import shutil

import pytest
import torch

from tests.trainer import models
from tokenizer_service import vocabulary
from trainer import prompts, sampler, stepping
from trainer.decoding import Decoder, Slot
from trainer.sampler import ImagePick, Request, SamplerSection

TEXT, IMAGE = vocabulary.TEXT_START, vocabulary.IMAGE_START
REQUESTS = [
    Request(prompt=prompts.image_prompt([TEXT + 1, TEXT + 2]), samples=3),
    Request(prompt=prompts.image_prompt([TEXT + 7] * 5)),
]
SHAPES = {
    "paper": {"variant": "paper", "image_places": 8, "lookup_rows": 500},
    "modern": {"variant": "modern"},
}


def drawn(device: str, shape: str, **words: object) -> list[list[int]]:
    model = models.random(context=400, width=64, **SHAPES[shape]).to(device)
    section = SamplerSection.model_validate(
        {"temperature": 0.7, "top_p": 0.9, "max_text_tokens": 12, **words}
    )
    codes = sampler.draw_images(model, REQUESTS, section, num_tokens=12, seed=3).tolist()
    asked = [Request(prompt=prompts.caption_prompt([IMAGE + 1, IMAGE + 2]), samples=2)]
    return [*codes, *map(list, sampler.draw_texts(model, asked, section, seed=3))]


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # inside torch's own compiler
def test_a_compiled_step_draws_the_same_on_a_cpu() -> None:
    assert drawn("cpu", "modern", engine="compile") == drawn("cpu", "modern")


@pytest.mark.gpu
@pytest.mark.timeout(600)
@pytest.mark.parametrize("shape", list(SHAPES))
@pytest.mark.parametrize("words", [{}, {"method": "half"}, {"guidance": 1.0}], ids=["top_p", "half", "plain"])
def test_a_captured_step_draws_what_the_cpu_draws(shape: str, words: dict[str, object]) -> None:
    expected = drawn("cpu", shape, **words)
    assert drawn("cuda", shape, **words) == expected
    assert drawn("cuda", shape, engine="compile", **words) == expected


@pytest.mark.gpu
@pytest.mark.timeout(600)
@pytest.mark.parametrize("precision", ["bfloat16", "int8"])
def test_small_weights_are_captured_too(precision: str) -> None:
    pytest.importorskip("torchao")
    eager, captured = (
        drawn("cuda", "modern", temperature=0.0, precision=precision, engine=engine)
        for engine in ("eager", "compile")
    )
    same = sum(
        a == b for one, other in zip(eager, captured, strict=True) for a, b in zip(one, other, strict=False)
    )
    assert same > 0.5 * sum(map(len, eager))


@pytest.mark.gpu
@torch.inference_mode()
def test_a_step_waits_for_nothing() -> None:
    model, section = (
        models.random(context=400, width=64, variant="modern").cuda(),
        SamplerSection(method="half"),
    )
    rows = [prompts.image_prompt([TEXT + 1]), prompts.UNCONDITIONAL]
    decoder = Decoder.start(model, rows, num_new=4, engine="eager")
    pick = ImagePick(model, model.image_logits, section, 2, torch.ones(1, 1, dtype=torch.bool, device="cuda"))
    numbers = decoder.last_BD, torch.rand(1, device="cuda"), torch.full((1,), sampler.DRAWN, device="cuda")
    slot = Slot(at_1=torch.zeros(1, dtype=torch.int64, device="cuda"), stop=1, unseen_S=None)
    torch.cuda.set_sync_debug_mode("error")
    try:
        ids_1, _ = stepping.advance(decoder, pick, numbers, slot)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert IMAGE <= ids_1.item() < IMAGE + models.LIVE.num_codes
