"""The fit of the image tokenizer: it repeats, it learns, and its codebook stays alive."""

import json

import numpy as np
import pytest
import torch

from tokenizer_service import fit, metrics, vq
from tokenizer_service.fit import Fitted, VQFitConfig

pytestmark = pytest.mark.long

RNG = np.random.default_rng(0)
TINY = {
    "vq": {"codebook_size": 32, "code_dim": 8, "widths": [16, 16], "decoder_blocks": 1},
    "steps": 150,
    "batch_images": 16,
    "warmup_steps": 5,
    "report_every": 20,
}


def plain_squares(count: int) -> np.ndarray:
    """Images of four squares [count, 16, 16, 3], each of one of eight colours."""
    colors = RNG.integers(0, 2, (count, 2, 2, 3)) * 215 + 20
    return np.kron(colors, np.ones((1, 8, 8, 1))).astype(np.uint8)


TRAIN_NHWC, HELD_NHWC = plain_squares(200), plain_squares(40)


def fitted(**changes: object) -> Fitted:
    config = VQFitConfig.model_validate(TINY | changes)
    return fit.fit_vq(TRAIN_NHWC, config, report=lambda _step, _facts: None)


@pytest.fixture(scope="module")
def first() -> Fitted:
    return fitted()


def test_two_runs_give_the_same_bytes_and_draw_nothing_from_the_randomness_of_the_process(
    first: Fitted,
) -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    assert vq.save(fitted().model) == vq.save(first.model)
    assert torch.equal(torch.get_rng_state(), before)


def test_another_seed_gives_other_bytes() -> None:
    assert vq.save(fitted(steps=2).model) != vq.save(fitted(steps=2, seed=1).model)


def test_images_that_were_not_seen_come_back_recognisable(first: Fitted) -> None:
    codes_BT = vq.encode_images(first.model, HELD_NHWC)
    mean = np.broadcast_to(TRAIN_NHWC.mean(axis=(0, 1, 2)), HELD_NHWC.shape).astype(np.uint8)
    seen = metrics.pooled_psnr(HELD_NHWC, vq.decode_codes(first.model, codes_BT))
    assert seen > metrics.pooled_psnr(HELD_NHWC, mean) + 6


def test_reports_come_at_the_steps_asked_for_and_make_the_curves() -> None:
    told: list[tuple[int, dict[str, float]]] = []
    config = VQFitConfig.model_validate(TINY | {"steps": 25, "report_every": 10})
    done = fit.fit_vq(TRAIN_NHWC, config, report=lambda step, facts: told.append((step, facts)))
    assert [step for step, _ in told] == [10, 20, 25]
    assert [facts for _, facts in told] == list(done.curves)
    assert json.loads(json.dumps(done.curves))[0]["step"] == 10
    assert all(np.isfinite(list(facts.values())).all() for facts in done.curves)


def test_the_images_are_left_as_they_were() -> None:
    before = TRAIN_NHWC.copy()
    fitted(steps=2, flip_share=1.0)
    assert np.array_equal(TRAIN_NHWC, before)


def test_the_codebook_is_made_of_unit_vectors(first: Fitted) -> None:
    assert torch.allclose(first.model.codebook_KD.norm(dim=1), torch.ones(32), atol=1e-5)


def test_codes_that_nothing_chooses_are_revived() -> None:
    noise = RNG.integers(0, 256, (64, 16, 16, 3), dtype=np.uint8)
    steps = TINY | {"steps": 80, "code_decay": 0.8}
    alive = VQFitConfig.model_validate(steps)
    left = VQFitConfig.model_validate(steps | {"dead_share": 0.0})
    used = {}
    for name, config in {"alive": alive, "left": left}.items():
        model = fit.fit_vq(noise, config, report=lambda _step, _facts: None).model
        used[name] = metrics.codebook_use(vq.encode_images(model, noise), 32).used
    assert used["alive"] > used["left"]


def test_a_perceptual_loss_is_given_the_drawn_and_the_true_images() -> None:
    shapes: list[tuple[torch.Size, torch.Size]] = []

    def edges(drawn_BCHW: torch.Tensor, true_BCHW: torch.Tensor) -> torch.Tensor:
        shapes.append((drawn_BCHW.shape, true_BCHW.shape))
        return (drawn_BCHW.diff(dim=-1) - true_BCHW.diff(dim=-1)).square().mean()

    config = VQFitConfig.model_validate(TINY | {"steps": 3, "perceptual_weight": 0.5})
    with_edges = fit.fit_vq(TRAIN_NHWC, config, report=lambda _step, _facts: None, perceptual=edges)
    assert shapes == [(torch.Size([16, 3, 16, 16]),) * 2] * 3
    assert vq.save(with_edges.model) != vq.save(fitted(steps=3).model)
    with pytest.raises(ValueError, match="no perceptual loss was given"):
        fit.fit_vq(TRAIN_NHWC, config, report=lambda _step, _facts: None)


@pytest.mark.parametrize("images_NHWC", [TRAIN_NHWC[:0], TRAIN_NHWC[:, :12], TRAIN_NHWC[..., :1]])
def test_images_that_cannot_be_fitted_are_refused(images_NHWC: np.ndarray) -> None:
    with pytest.raises(ValueError, match="multiples of 8"):
        fit.fit_vq(images_NHWC, VQFitConfig.model_validate(TINY), report=lambda _step, _facts: None)
