"""The quantisers, one by one and all alike: what is nearest, what learns, and how a codebook stays alive."""

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from tokenizer_service import quantizers, softmaxes, vq
from tokenizer_service.quantizers import FSQConfig, IBQConfig, Quantizer, QuantizerConfig, UnitConfig
from tokenizer_service.vq import VQConfig

SIZE, DIM = 64, 4
KINDS: dict[str, dict[str, object]] = {
    "unit": {"kind": "unit", "dim": DIM},
    "learnt unit": {"kind": "unit", "dim": DIM, "codebook": "learnt"},
    "ema": {"kind": "ema", "dim": DIM},
    "lookup": {"kind": "lookup", "dim": DIM},
    "simvq": {"kind": "simvq", "dim": DIM},
    "ibq": {"kind": "ibq", "dim": DIM},
    "gumbel": {"kind": "gumbel", "dim": DIM},
    "fsq": {"kind": "fsq", "levels": [4, 4, 4]},
}
BY_DISTANCE = ("unit", "learnt unit", "ema", "lookup", "simvq")
AVERAGED = ("unit", "ema")
LEARNT = ("learnt unit", "lookup", "simvq", "ibq", "gumbel")


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def made(name: str) -> Quantizer:
    config = TypeAdapter[QuantizerConfig](QuantizerConfig).validate_python(KINDS[name])
    quantizer = vq.QUANTIZERS[config.kind](config, SIZE)
    quantizer.initialize(seeded())
    return quantizer


def some_vectors(seed: int = 1, dim: int = DIM) -> Tensor:
    return torch.randn(3, dim, 5, 6, generator=seeded(seed))


@pytest.mark.parametrize("name", BY_DISTANCE)
def test_the_vector_of_a_code_is_nearest_to_that_code(name: str) -> None:
    quantizer, codes_Bhw = made(name), torch.arange(SIZE).view(1, 8, 8)
    assert torch.equal(quantizer.codes(quantizer.vectors(codes_Bhw)), codes_Bhw)


@pytest.mark.parametrize("name", KINDS)
def test_the_forward_pass_gives_the_codes_their_vectors_and_a_way_back_to_the_encoder(name: str) -> None:
    quantizer, vectors_BDhw = made(name), some_vectors(dim=made(name).dim).requires_grad_()
    found = quantizer(vectors_BDhw)
    assert torch.equal(found.codes, quantizer.codes(vectors_BDhw))
    assert found.codes.shape == (3, 5, 6)
    assert torch.allclose(found.vectors, quantizer.vectors(found.codes), atol=1e-6)
    (found.vectors * some_vectors(2, quantizer.dim)).sum().backward()
    assert vectors_BDhw.grad is not None
    assert vectors_BDhw.grad.abs().sum() > 0


@pytest.mark.parametrize("name", KINDS)
def test_codes_are_compared_in_float32_whatever_autocast_says(name: str) -> None:
    quantizer, vectors_BDhw = made(name), some_vectors(dim=made(name).dim)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        codes_Bhw = quantizer.codes(vectors_BDhw)
    assert torch.equal(codes_Bhw, quantizer.codes(vectors_BDhw))


@pytest.mark.parametrize("score_bytes", [1, 4 * 50, 4 * 50 * 7, 8 << 20])
def test_the_nearest_code_is_the_same_however_few_scores_are_made_at_once(
    score_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(quantizers.SCORE_BYTES, "cpu", score_bytes)
    generator = seeded()
    vectors_ND, codebook_KD = torch.randn(23, 6, generator=generator), torch.randn(50, 6, generator=generator)
    true_N = torch.cdist(vectors_ND, codebook_KD).argmin(dim=1)
    assert torch.equal(quantizers.nearest(vectors_ND, codebook_KD), true_N)
    assert quantizers.nearest(vectors_ND[:0], codebook_KD).shape == (0,)


@pytest.mark.long
def test_a_quarter_of_a_million_codes_are_searched_without_all_scores_at_once() -> None:
    codebook_KD = torch.randn(262_144, 8, generator=seeded())
    picked_N = torch.randint(262_144, (256,), generator=seeded())
    assert torch.equal(quantizers.nearest(codebook_KD[picked_N], codebook_KD), picked_N)


def test_of_equally_near_codes_the_first_is_taken() -> None:
    assert quantizers.nearest(torch.zeros(2, 3), torch.ones(5, 3)).tolist() == [0, 0]


@pytest.mark.parametrize("name", LEARNT)
def test_what_is_learnt_gets_a_gradient_and_what_is_frozen_none(name: str) -> None:
    quantizer = made(name)
    found = quantizer(some_vectors().requires_grad_())
    (found.vectors.square().sum() + sum(found.losses.values())).backward()
    assert all(weight.grad is not None and weight.grad.any() for weight in quantizer.parameters())
    assert all(buffer.grad is None for buffer in quantizer.buffers())


def test_with_index_backpropagation_every_code_learns_and_with_a_lookup_those_chosen() -> None:
    learning = {}
    for name in ("ibq", "lookup"):
        quantizer = made(name)
        found = quantizer(some_vectors()[:1, :, :2, :2])
        found.vectors.sum().backward() if name == "ibq" else found.losses["codebook"].backward()
        learning[name] = int(quantizer.codebook_KD.grad.any(dim=1).sum())
    assert learning["ibq"] == SIZE
    assert learning["lookup"] <= 4


def test_a_softmax_in_parts_is_the_whole_softmax(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = seeded()
    vectors_ND, keys_KD = torch.randn(23, 6, generator=generator), torch.randn(50, 6, generator=generator)
    bias_K, values_KD = torch.randn(50, generator=generator), torch.randn(50, 3, generator=generator)
    monkeypatch.setattr(softmaxes, "SOFTMAX_BYTES", 4 * 50 * 7)
    true_ND = (vectors_ND @ keys_KD.T + bias_K).softmax(dim=1) @ values_KD
    assert torch.allclose(softmaxes.mixed(vectors_ND, keys_KD, bias_K, values_KD), true_ND, atol=1e-6)
    chances_NK = (vectors_ND @ keys_KD.T / 0.5).softmax(dim=1)
    each, mean = (torch.special.entr(p).sum(dim=-1) for p in (chances_NK, chances_NK.mean(dim=0)))
    assert torch.allclose(softmaxes.entropy(vectors_ND, keys_KD, 0.5), each.mean() - mean, atol=1e-5)


def test_the_entropy_is_least_for_certain_choices_of_all_codes_alike() -> None:
    even = softmaxes.entropy(100 * torch.eye(8), torch.eye(8), 1.0)
    same = softmaxes.entropy(100 * torch.eye(8)[:1].expand(8, 8), torch.eye(8), 1.0)
    unsure = softmaxes.entropy(torch.zeros(8, 8), torch.eye(8), 1.0)
    assert even.item() == pytest.approx(-np.log(8), abs=1e-4)
    assert same.item() == pytest.approx(0, abs=1e-4)
    assert unsure.item() == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize("levels", [(3,), (4,), (8, 5, 5, 5), (4, 4, 4, 4, 4), (3, 4, 3)])
def test_levels_spell_every_code_once_and_every_level_can_be_reached(levels: tuple[int, ...]) -> None:
    config = FSQConfig(levels=levels)
    quantizer = vq.QUANTIZERS["fsq"](config, config.size)
    codes_Bhw = torch.arange(config.size).view(1, 1, -1)
    vectors_BDhw = quantizer.vectors(codes_Bhw)
    assert len(vectors_BDhw[0, :, 0].T.unique(dim=0)) == config.size
    assert vectors_BDhw.abs().max() <= 1
    wide_BDhw = 2 * torch.randn(1, len(levels), 1, 200 * config.size, generator=seeded())
    assert quantizer.codes(wide_BDhw).unique().tolist() == list(range(config.size))


@pytest.mark.parametrize("size", [1000, 1023, 2048])
def test_levels_that_spell_another_number_of_codes_are_refused_with_the_right_one(size: int) -> None:
    with pytest.raises(ValidationError, match="set codebook_size to 1024"):
        VQConfig(codebook_size=size, quantizer=FSQConfig())


@pytest.mark.parametrize("name", AVERAGED)
def test_the_first_batch_seeds_the_codebook_and_going_on_keeps_it(name: str) -> None:
    quantizer, vectors_BDhw = made(name), some_vectors(dim=made(name).dim)
    before_KD = quantizer.codebook_KD.clone()
    quantizer.keep(vectors_BDhw)
    assert torch.equal(quantizer.codebook_KD, before_KD)
    quantizer.begin(vectors_BDhw, seeded())
    seen_ND = quantizers.rows(quantizer.seen(vectors_BDhw))
    assert torch.cdist(quantizer.codebook_KD, seen_ND).min(dim=1).values.max() < 1e-3


def test_a_code_follows_the_mean_of_what_chose_it() -> None:
    quantizer = vq.QUANTIZERS["ema"](quantizers.EMAConfig(dim=1, decay=0.5, dead_share=0), 2)
    quantizer.codebook_KD.copy_(torch.tensor([[0.0], [10.0]]))
    vectors_BDhw = torch.tensor([1.0, 3.0, 12.0, 8.0]).view(1, 1, 1, 4)
    quantizer.keep(vectors_BDhw)
    codes_Bhw = quantizer.codes(vectors_BDhw)
    quantizer.settle(vectors_BDhw, codes_Bhw, reviving=False, generator=seeded())
    assert codes_Bhw.flatten().tolist() == [0, 0, 1, 1]
    assert quantizer.codebook_KD.flatten().tolist() == [1.0, 10.0]


@pytest.mark.parametrize("name", AVERAGED)
def test_dead_codes_move_onto_the_batch_only_while_they_are_revived(name: str) -> None:
    used = {}
    for reviving in (False, True):
        quantizer, vectors_BDhw = made(name), some_vectors(dim=made(name).dim)
        quantizer.codebook_KD[1:] = quantizer.codebook_KD[:1]  # all but one can never be chosen
        quantizer.keep(vectors_BDhw)
        for _ in range(100):
            codes_Bhw = quantizer.codes(vectors_BDhw)
            quantizer.settle(vectors_BDhw, codes_Bhw, reviving=reviving, generator=seeded())
        used[reviving] = len(quantizer.codes(vectors_BDhw).unique())
        assert quantizer.codebook_KD.isfinite().all()
    assert used[False] < SIZE / 4
    assert used[True] > SIZE / 2


@pytest.mark.parametrize("name", LEARNT)
def test_settling_moves_nothing_that_has_a_gradient(name: str) -> None:
    quantizer, vectors_BDhw = made(name), some_vectors(dim=made(name).dim)
    before = {key: value.clone() for key, value in quantizer.state_dict().items()}
    quantizer.begin(vectors_BDhw, seeded())
    quantizer.settle(vectors_BDhw, quantizer.codes(vectors_BDhw), reviving=True, generator=seeded())
    assert all(torch.equal(value, before[key]) for key, value in quantizer.state_dict().items())


@pytest.mark.parametrize("name", KINDS)
def test_the_share_in_use_falls_to_the_codes_that_are_chosen(name: str) -> None:
    quantizer = made(name)
    vectors_BDhw = some_vectors(dim=quantizer.dim)
    quantizer.begin(vectors_BDhw, seeded())
    assert quantizer.used() == 1.0
    codes_Bhw = torch.arange(SIZE // 4).repeat(6)[:90].view(3, 5, 6)
    for _ in range(200):
        quantizer.settle(vectors_BDhw, codes_Bhw, reviving=False, generator=seeded())
    assert quantizer.used() == 0.25


@pytest.mark.parametrize("name", KINDS)
def test_what_only_training_needs_is_not_saved(name: str) -> None:
    assert not {"counts_K", "sums_KD"} & made(name).state_dict().keys()


def test_the_softmax_of_the_scores_learns_towards_the_better_code() -> None:
    quantizer = vq.QUANTIZERS["ibq"](IBQConfig(dim=1, entropy=0), 2)
    with torch.no_grad():
        quantizer.codebook_KD.copy_(torch.tensor([[-1.0], [1.0]]))
    vectors_BDhw = torch.tensor(0.1).view(1, 1, 1, 1).requires_grad_()
    quantizer(vectors_BDhw).vectors.sum().backward()
    assert vectors_BDhw.grad is not None
    assert vectors_BDhw.grad.item() > 0  # further up, the code of 1 is more certain


@pytest.mark.parametrize(
    "bad",
    [
        {"kind": "unit", "dim": 0},
        {"kind": "fsq", "levels": [2]},
        {"kind": "magic"},
        {"kind": "fsq", "dim": 3},
    ],
)
def test_quantisers_that_cannot_be_are_refused(bad: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter[QuantizerConfig](QuantizerConfig).validate_python(bad)


def test_the_demo_has_unit_vectors_that_follow_averages() -> None:
    assert VQConfig().quantizer == UnitConfig(dim=16, codebook="averaged", decay=0.95, dead_share=0.03)


@pytest.mark.parametrize("name", AVERAGED)
def test_a_code_that_nothing_chooses_for_long_stays_where_it_is(name: str) -> None:
    quantizer = made(name)
    vectors_BDhw = torch.ones(1, DIM, 4, 4)
    quantizer.keep(vectors_BDhw)
    before_KD = quantizer.state_dict()["codebook_KD"].clone()
    codes_Bhw = quantizer.codes(vectors_BDhw)
    for _ in range(2000):
        quantizer.settle(vectors_BDhw, codes_Bhw, reviving=False, generator=seeded())
    others_K = torch.arange(SIZE) != codes_Bhw.flatten()[0]
    after_KD = quantizer.state_dict()["codebook_KD"]
    assert torch.allclose(after_KD[others_K], before_KD[others_K], atol=1e-4)
