"""A fit that was stopped goes on to the same bytes, whatever its quantiser and with a GAN."""

from pathlib import Path

import numpy as np
import pytest
import torch

from infra.artifact import Corrupt
from tokenizer_service import fit, resume, vq
from tokenizer_service.descent import Descent
from tokenizer_service.fit import Squares
from tokenizer_service.recipe import VQFitConfig

IMAGES = np.random.default_rng(0).integers(0, 256, (24, 16, 16, 3), dtype=np.uint8)
KINDS = ("unit", "ema", "lookup", "simvq", "ibq", "fsq", "gumbel")


def recipe(kind: str) -> VQFitConfig:
    quantizer: dict[str, object] = {"kind": kind}
    quantizer |= {"levels": [4, 4]} if kind == "fsq" else {"dim": 4}
    body = {"kind": "folded", "widths": [8, 8], "decoder_blocks": 1}
    gan = {"begin": 1, "alone_steps": 1, "ramp_steps": 2, "channels": 8, "layers": 1}
    shape = {"codebook_size": 16, "quantizer": quantizer, "body": body}
    return VQFitConfig.model_validate({"vq": shape, "steps": 8, "batch_images": 4, "gan": gan})


def begun(config: VQFitConfig) -> tuple[Descent, Squares]:
    batches = Squares(IMAGES, config)
    return fit.begin(config, next(batches), perceptual=None, device="cpu"), batches


def advance(descent: Descent, batches: Squares, *, to: int) -> None:
    while descent.step < to:
        descent.advance(next(batches))
        descent.watch(IMAGES[:4])


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS)
def test_a_fit_that_was_stopped_goes_on_to_the_same_bytes(kind: str, tmp_path: Path) -> None:
    straight, batches = begun(recipe(kind))
    advance(straight, batches, to=8)
    halves, batches = begun(recipe(kind))
    advance(halves, batches, to=5)
    resume.save(tmp_path, halves, stream={"at": 5}, keep=1)
    torch.manual_seed(9)
    again, _ = begun(recipe(kind))
    folder = resume.latest(tmp_path)
    assert folder is not None
    assert resume.restore(folder, again) == {"at": 5}
    advance(again, batches, to=8)
    one, two = resume.arrays(straight), resume.arrays(again)
    assert one.keys() == two.keys()
    assert [name for name in one if not torch.equal(one[name], two[name])] == []
    assert again.facts() == straight.facts()
    assert vq.save(again.average) == vq.save(straight.average)


def test_the_latest_checkpoints_stay_and_the_same_step_is_written_once(tmp_path: Path) -> None:
    descent, batches = begun(recipe("unit"))
    for step in (1, 2, 3, 3):
        advance(descent, batches, to=step)
        resume.save(tmp_path, descent, stream=None, keep=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000002", "step-00000003"]
    assert resume.resumed_step(tmp_path) == 3


def test_a_damaged_checkpoint_is_named_with_what_to_do(tmp_path: Path) -> None:
    descent, _ = begun(recipe("unit"))
    folder = resume.save(tmp_path, descent, stream=None, keep=1)
    (folder / resume.ARRAYS).write_bytes(b"cut")
    with pytest.raises(Corrupt, match="remove the folder"):
        resume.restore(folder, descent)
    (folder / resume.STATE).unlink()
    with pytest.raises(Corrupt, match=resume.STATE):
        resume.read_state(folder)
