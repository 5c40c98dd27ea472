"""The GAN comes in slowly, is held back where it harms, and leaves everything else as it was."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from tokenizer_service import discriminator, fit, vq
from tokenizer_service.adversary import Adversary
from tokenizer_service.discriminator import Discriminator, GanConfig, Guard
from tokenizer_service.fit import Fitted
from tokenizer_service.recipe import VQFitConfig

SMALL = GanConfig(begin=2, alone_steps=1, ramp_steps=2, channels=8, layers=1)
IMAGES = np.random.default_rng(0).integers(0, 256, (24, 16, 16, 3), dtype=np.uint8)


def fitted(steps: int, **changes: object) -> Fitted:
    shape = {"codebook_size": 16, "quantizer": {"kind": "unit", "dim": 4}, "body": {"widths": [8, 8]}}
    shape["body"] |= {"kind": "folded", "decoder_blocks": 1}  # type: ignore[operator]
    settings = {"vq": shape, "steps": steps, "batch_images": 8, "warmup_steps": 2, "report_every": 1}
    config = VQFitConfig.model_validate({**settings, **changes})
    return fit.fit_vq(IMAGES, config, report=lambda _step, _facts: None)


def adversary(config: GanConfig = SMALL) -> Adversary:
    return Adversary(discriminator.new(config, torch.Generator().manual_seed(0)), config)


@given(st.integers(0, 50), st.integers(0, 50), st.integers(1, 50))
def test_the_weight_is_nothing_until_the_discriminator_learnt_alone_and_never_falls(
    begin: int, alone: int, ramp: int
) -> None:
    config = GanConfig(begin=begin, alone_steps=alone, ramp_steps=ramp)
    shares = [discriminator.ramp(config, step) for step in range(1, begin + alone + ramp + 2)]
    assert not any(shares[: begin + alone])
    assert shares == sorted(shares)
    assert shares[begin + alone] == pytest.approx(1 / ramp)
    assert shares[-1] == 1.0


def test_until_its_weight_grows_a_fit_is_byte_for_byte_the_one_without() -> None:
    late = SMALL.model_copy(update={"begin": 3, "alone_steps": 2}).model_dump()
    assert vq.save(fitted(5, gan=late).model) == vq.save(fitted(5).model)
    assert vq.save(fitted(6, gan=late).model) != vq.save(fitted(6).model)


def test_curves_tell_when_the_discriminator_learns_and_what_weight_it_has() -> None:
    curves = fitted(6, gan=SMALL.model_dump()).curves
    assert [line["step"] for line in curves if "gan_loss" in line] == [3, 4, 5, 6]
    assert [line["gan_weight"] for line in curves if "gan_weight" in line] == [0.25, 0.5, 0.5]
    assert all(line["gan_ratio"] <= SMALL.max_ratio for line in curves if "gan_ratio" in line)


def test_what_it_asks_for_is_the_gradient_of_the_adversarial_term_and_it_learns_nothing_by_asking() -> None:
    asking = adversary()
    last = torch.nn.Parameter(torch.randn(3, 3, 1, 1, generator=torch.Generator().manual_seed(1)))
    true_BCHW = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(2))
    drawn_BCHW = functional.conv2d(true_BCHW, last)
    loss = (drawn_BCHW - true_BCHW).square().mean()
    pull = asking.pull(loss, drawn_BCHW, last, step=5)
    (found,) = torch.autograd.grad(pull, last, retain_graph=True)
    adversarial = -asking.net(drawn_BCHW).mean()
    scale = discriminator.ratio(loss, adversarial, last, most=SMALL.max_ratio) * SMALL.weight
    (wanted,) = torch.autograd.grad(scale * adversarial, last, retain_graph=True)
    assert torch.allclose(found, wanted, rtol=1e-4)
    pull.backward()
    assert all(weight.grad is None for weight in asking.net.parameters())


def test_the_ratio_makes_both_gradients_as_long_and_is_capped() -> None:
    last = torch.tensor([1.0, 2.0], requires_grad=True)
    loss, adversarial = (3 * last).sum(), last.sum()
    assert discriminator.ratio(loss, adversarial, last, most=100.0).item() == pytest.approx(3, rel=1e-3)
    assert discriminator.ratio(loss, 0 * adversarial, last, most=7.0).item() == 7.0


def test_it_learns_to_tell_true_from_drawn() -> None:
    learning = adversary(SMALL.model_copy(update={"learning_rate": 3e-3, "begin": 0, "lecam_weight": 0.0}))
    noise = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    smooth = functional.avg_pool2d(noise, 5, stride=1, padding=2)
    for step in range(1, 80):  # after 40 it still swings, on each kind of CPU otherwise; after 60 it is done
        learning.learn(noise, smooth, step=step)
    assert learning.net(noise).mean() > 0.5
    assert learning.net(smooth).mean() < -0.5


def test_lecam_holds_back_logits_that_ran_beyond_the_running_means_of_the_others() -> None:
    means = torch.tensor([0.5, -0.5])
    near = discriminator.lecam(torch.tensor([-0.5]), torch.tensor([0.5]), means)
    far = discriminator.lecam(torch.tensor([1.5]), torch.tensor([-1.5]), means)
    assert near.item() == 0.0
    assert far.item() == pytest.approx(2**2 + 2**2)


@pytest.mark.parametrize(("psnr", "scale"), [(18.49, 0.5), (18.5, 1.0), (21.0, 1.0)])
def test_the_guard_halves_the_weight_where_psnr_fell_by_more_than_allowed(psnr: float, scale: float) -> None:
    guard = Guard(best_db=20.0).saw(psnr, GanConfig(guard_db=1.5))
    assert guard == Guard(scale=scale, best_db=max(psnr, 20.0))


def test_a_fall_before_the_weight_grew_is_not_the_discriminators_doing() -> None:
    watched = adversary()
    for step, psnr in ((1, 20.0), (3, 10.0)):
        watched.saw(psnr, step=step)
    assert watched.guard == Guard(scale=1.0, best_db=20.0)
    watched.saw(10.0, step=4)
    watched.saw(10.0, step=5)
    assert watched.guard == Guard(scale=0.25, best_db=20.0)


def test_a_gan_that_wrecks_the_images_is_halved_again_and_again_and_the_curves_tell() -> None:
    wrecking = SMALL.model_copy(update={"weight": 1e4, "guard_db": 0.05}).model_dump()
    scales = [line["gan_scale"] for line in fitted(20, gan=wrecking, learning_rate=2e-2).curves]
    assert scales == sorted(scales, reverse=True)
    assert scales[0] == 1.0
    assert scales[-1] < 0.1


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_the_smallest_image_leaves_one_patch_and_a_smaller_one_is_refused(layers: int) -> None:
    config = GanConfig(channels=8, layers=layers)
    net = Discriminator(config)
    side = discriminator.smallest_side(config)
    assert net(torch.zeros(1, 3, side, side)).shape == (1, 1, 1, 1)
    with pytest.raises(RuntimeError):
        net(torch.zeros(1, 3, side - 2**layers, side - 2**layers))


def test_images_too_small_for_a_patch_are_refused_with_what_to_lower() -> None:
    with pytest.raises(ValueError, match=r"gan.layers = 3 judges patches of images of at least 24 px"):
        fitted(1, gan=GanConfig(channels=8).model_dump())
