"""The fit of the image tokenizer: it repeats, it learns, and its codebook stays alive."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import distributed, multiprocessing

from tokenizer_service import coding, fit, metrics, resume, vq
from tokenizer_service.crops import CropConfig
from tokenizer_service.descent import Batch, Diverged, decibels
from tokenizer_service.fit import Fitted
from tokenizer_service.recipe import VQFitConfig

pytestmark = pytest.mark.long

RNG = np.random.default_rng(0)
TINY = {
    "vq": {
        "codebook_size": 32,
        "quantizer": {"kind": "unit", "dim": 8},
        "body": {"kind": "folded", "widths": [16, 16], "decoder_blocks": 1},
    },
    "steps": 150,
    "batch_images": 16,
    "warmup_steps": 5,
    "report_every": 20,
}


QUANTIZERS: dict[str, dict[str, object]] = {
    "unit": {"kind": "unit", "dim": 4},
    "learnt unit": {"kind": "unit", "dim": 4, "codebook": "learnt"},
    "ema": {"kind": "ema", "dim": 4},
    "lookup": {"kind": "lookup", "dim": 4},
    "simvq": {"kind": "simvq", "dim": 4},
    "ibq": {"kind": "ibq", "dim": 4},
    "fsq": {"kind": "fsq", "levels": [3, 3, 3]},
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
    codes_BT = coding.encode_images(first.model, HELD_NHWC)
    mean = np.broadcast_to(TRAIN_NHWC.mean(axis=(0, 1, 2)), HELD_NHWC.shape).astype(np.uint8)
    seen = metrics.pooled_psnr(HELD_NHWC, coding.decode_codes(first.model, codes_BT))
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
    assert torch.allclose(first.model.quantizer.codebook_KD.norm(dim=1), torch.ones(32), atol=1e-5)


def test_codes_that_nothing_chooses_are_revived() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 16, 16, 3), dtype=np.uint8)
    used = {}
    for name, share in {"alive": 0.1, "left": 0.0}.items():
        quantizer = {"kind": "unit", "dim": 8, "decay": 0.8, "dead_share": share}
        shape = TINY["vq"] | {"codebook_size": 128, "quantizer": quantizer}
        config = VQFitConfig.model_validate(TINY | {"steps": 80, "vq": shape})
        model = fit.fit_vq(noise, config, report=lambda _step, _facts: None).model
        used[name] = metrics.codebook_use(coding.encode_images(model, noise), 128).used
    assert used["alive"] > used["left"] + 0.1


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


KINDS = {
    "unit": {"dim": 8},
    "unit, learnt": {"kind": "unit", "dim": 8, "codebook": "learnt"},
    "ema": {"dim": 8},
    "lookup": {"dim": 8},
    "simvq": {"dim": 8},
    "ibq": {"dim": 8},
    "fsq": {"levels": [4, 3, 3]},
    "gumbel": {"dim": 8},
}


@pytest.mark.parametrize("name", KINDS)
def test_every_quantiser_learns_and_tells_how_its_codes_are_used(name: str) -> None:
    shape = TINY["vq"] | {"codebook_size": 36, "quantizer": {"kind": name, **KINDS[name]}}
    done = fitted(vq=shape, steps=60)
    first, *_, last = done.curves
    assert last["psnr"] > first["psnr"] + 0.3
    assert 0 < last["used"] <= 1
    assert 1 < last["perplexity"] <= 36 + 1e-6
    assert np.isfinite([value for line in done.curves for value in line.values()]).all()


def test_a_fit_that_diverges_names_its_step_its_losses_and_what_to_lower() -> None:
    with pytest.raises(
        Diverged, match=r"^step \d+: the gradient is (nan|inf) \(losses: mse .*lower learning_rate"
    ):
        fitted(learning_rate=1e18, clip_norm=1e18, warmup_steps=0)


def test_boxes_add_a_loss_of_their_own() -> None:
    config = VQFitConfig.model_validate(
        TINY | {"crops": CropConfig(side=16, perceptual_weight=0.0).model_dump()}
    )
    images_BHWC = TRAIN_NHWC[:4]
    found = []
    for boxes_N5 in (np.zeros((0, 5), np.float32), np.array([[1, 2, 2, 12, 12]], np.float32)):
        descent = fit.begin(config, Batch(images_BHWC=images_BHWC), perceptual=None, device="cpu")
        descent.advance(Batch(images_BHWC=images_BHWC, boxes_N5=boxes_N5))
        found.append(descent.facts())
    assert found[0]["crops_loss"] == 0.0
    assert found[1]["loss"] == pytest.approx(found[0]["loss"] + found[1]["crops_loss"], rel=1e-5)


def test_half_precision_fits_nearly_the_same_and_the_weights_stay_whole() -> None:
    whole, half = (fitted(steps=20, dtype=dtype) for dtype in ("float32", "bfloat16"))
    assert half.curves[-1]["loss"] == pytest.approx(whole.curves[-1]["loss"], rel=0.1)
    assert half.curves != whole.curves
    assert {weight.dtype for weight in half.model.parameters()} == {torch.float32}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute:UserWarning")  # torch looks there as it compiles
def test_compiled_it_takes_the_same_steps_with_a_gan_too() -> None:
    gan = {"begin": 1, "alone_steps": 1, "ramp_steps": 2, "channels": 8, "layers": 1}
    eager, compiled = (fitted(steps=6, engine=engine, gan=gan) for engine in ("eager", "compile"))
    assert compiled.curves[-1]["loss"] == pytest.approx(eager.curves[-1]["loss"], rel=1e-2)


def test_weights_that_a_fit_begins_with_keep_their_codebook(first: Fitted) -> None:
    start = vq.load(vq.save(first.model))
    config = VQFitConfig.model_validate(TINY)
    batch = Batch(images_BHWC=TRAIN_NHWC[:16])
    descent = fit.begin(config, batch, perceptual=None, device="cpu", init=start)
    assert torch.equal(descent.model.quantizer.codebook_KD, first.model.quantizer.codebook_KD)
    psnr = descent.watch(HELD_NHWC)["watched_psnr"]
    true_BCHW = coding.to_floats(HELD_NHWC)
    drawn_BCHW = first.model.decode(first.model.encode(true_BCHW)).clamp(-1, 1)
    assert psnr == pytest.approx(decibels(float((drawn_BCHW - true_BCHW).square().mean())), abs=1e-4)
    descent.advance(batch)
    assert not torch.equal(descent.model.decoder[0].weight, first.model.decoder[0].weight)


def ends_of_a_rank(rank: int, address: str, found: "multiprocessing.Queue[dict[str, str]]") -> None:
    """Fits of all kinds of quantisers, each rank on images of its own; digests of what they ended with."""
    distributed.init_process_group("gloo", init_method=address, rank=rank, world_size=2)
    gan = {"begin": 1, "alone_steps": 1, "ramp_steps": 2, "channels": 8, "layers": 1}
    told = {}
    for name, kind in QUANTIZERS.items():
        values = TINY | {"gan": gan, "vq": TINY["vq"] | {"codebook_size": 27, "quantizer": kind}}
        config, mine = VQFitConfig.model_validate(values), TRAIN_NHWC[rank::2]
        descent = fit.begin(config, Batch(images_BHWC=mine[:8]), perceptual=None, device="cpu")
        for step in range(5):
            descent.advance(Batch(images_BHWC=mine[step : step + 8]))
            descent.facts()
        for array, tensor in resume.arrays(descent).items():
            told[f"{name} {array}"] = hashlib.sha256(tensor.detach().numpy().tobytes()).hexdigest()
    found.put(told)
    distributed.destroy_process_group()


@pytest.mark.long
@pytest.mark.timeout(600)  # two processes of seven quantisers: over 100 s on a busy machine
def test_ranks_that_see_other_images_end_with_equal_weights_and_codebooks_of_every_kind(
    tmp_path: Path,
) -> None:
    context = multiprocessing.get_context("spawn")
    found = context.Queue()
    where = f"file://{tmp_path}/at"
    ranks = [context.Process(target=ends_of_a_rank, args=(rank, where, found)) for rank in range(2)]
    for rank in ranks:
        rank.start()
    first, second = found.get(timeout=500), found.get(timeout=500)
    for rank in ranks:
        rank.join()
    assert {array for array in first if first[array] != second[array]} == set()
    assert len({array.split()[0] for array in first}) == len(QUANTIZERS)
