import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenizer_service import vocabulary
from tokenizer_service.vocabulary import Live
from trainer import cm3, sampler
from trainer.model import ModelSection, Transformer, packed_inputs
from trainer.sampler import Pair, SamplerSection

LIVE = Live(num_text=30, num_codes=20)
GREEDY = SamplerSection(temperature=0.0, guidance=1.0, max_text_tokens=6)
TEXT = vocabulary.TEXT_START
IMAGE = vocabulary.IMAGE_START


@pytest.fixture(scope="module")
def model() -> Transformer:
    section = ModelSection(
        num_layers=2, width=32, num_heads=4, context=64, image_places=8, lookup_rows=500, dropout=0.5
    )
    model = Transformer(section, LIVE)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(torch.randn(weight.shape, generator=generator) * 0.4)
    return model


def hidden_without_cache(model: Transformer, ids: list[int]) -> torch.Tensor:
    ids_BT = torch.tensor([ids])
    positions_BT = torch.arange(len(ids))[None]
    model.eval()
    with torch.no_grad():
        hidden = model(packed_inputs(ids_BT, torch.zeros_like(ids_BT), positions_BT))[:, -1]
    model.train()
    return hidden


def test_cached_image_decoding_equals_reading_everything_again(model: Transformer) -> None:
    prompts = [sampler.image_prompt([TEXT, TEXT + 1]), sampler.image_prompt([TEXT + 7, TEXT + 8, TEXT + 9])]
    codes_BT = sampler.draw_images(model, prompts, GREEDY, num_tokens=8, seed=0)
    for prompt, codes in zip(prompts, codes_BT.tolist(), strict=True):
        ids = list(prompt)
        for code in codes:
            assert code == model.image_logits(hidden_without_cache(model, ids)).argmax().item()
            ids.append(code + IMAGE)


def test_guidance_mixes_with_the_stream_whose_text_was_cut(model: Transformer) -> None:
    prompt = sampler.image_prompt([TEXT + 3])
    section = GREEDY.model_copy(update={"guidance": 2.5})
    (codes,) = sampler.draw_images(model, [prompt], section, num_tokens=6, seed=0).tolist()
    drawn: list[int] = []
    for code in codes:
        c, u = (
            model.image_logits(hidden_without_cache(model, [*start, *drawn])).log_softmax(-1)
            for start in (prompt, sampler.UNCONDITIONAL)
        )
        assert code == (u + 2.5 * (c - u)).argmax().item()
        drawn.append(code + IMAGE)


def test_a_caption_is_the_greedy_infill_and_ends_before_eoss(model: Transformer) -> None:
    prompts = [sampler.caption_prompt([IMAGE + i, IMAGE + 2 * i, IMAGE]) for i in range(1, 6)]
    for prompt, drawn in zip(prompts, sampler.draw_texts(model, prompts, GREEDY, seed=0), strict=True):
        ids = list(prompt)
        for token in drawn:
            assert TEXT <= token < TEXT + LIVE.num_text
            logits = sampler.only_text(model.text_logits(hidden_without_cache(model, ids)))
            assert token == logits.argmax().item()
            ids.append(token)
        logits = sampler.only_text(model.text_logits(hidden_without_cache(model, ids)))
        assert len(drawn) == GREEDY.max_text_tokens or logits.argmax().item() == vocabulary.EOSS


@given(seed=st.integers(0, 2**32), texts=st.lists(st.integers(0, 29), min_size=1, max_size=3))
@settings(max_examples=10)
def test_a_sample_depends_on_seed_prompt_and_number_alone(
    model: Transformer, seed: int, texts: list[int]
) -> None:
    section = SamplerSection(temperature=1.0, top_p=0.9, guidance=3.0)
    mine = sampler.image_prompt([TEXT + 5, TEXT + 6])
    others = [sampler.image_prompt([TEXT + text]) for text in texts]
    alone = sampler.draw_images(model, [mine], section, num_tokens=6, seed=seed)
    among = sampler.draw_images(model, [*others, mine, *others], section, num_tokens=6, seed=seed)
    assert alone[0].tolist() == among[len(others)].tolist()


def test_copies_of_a_prompt_are_different_samples_and_repeat_by_seed(model: Transformer) -> None:
    section = SamplerSection(temperature=1.0, top_p=1.0, guidance=1.0)
    prompts = [sampler.image_prompt([TEXT])] * 3
    first, again, other = (
        sampler.draw_images(model, prompts, section, num_tokens=8, seed=seed) for seed in (1, 1, 2)
    )
    assert len({tuple(row) for row in first.tolist()}) == 3
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_images_have_only_live_codes_and_exactly_as_many_as_asked(model: Transformer) -> None:
    section = SamplerSection(temperature=50.0, top_p=1.0, guidance=1.0)
    codes_BT = sampler.draw_images(model, [sampler.UNCONDITIONAL] * 20, section, num_tokens=12, seed=0)
    assert codes_BT.shape == (20, 12)
    assert set(np.unique(codes_BT)) == set(range(LIVE.num_codes))


def test_sampling_leaves_the_training_mode_as_it_was(model: Transformer) -> None:
    model.train()
    sampler.draw_images(model, [sampler.UNCONDITIONAL], GREEDY, num_tokens=2, seed=0)
    assert model.training


@given(
    logits=st.lists(st.floats(-5, 5), min_size=2, max_size=12, unique=True),
    uniform=st.floats(0, 1, exclude_max=True, width=32),
    top_p=st.floats(0.01, 1.0),
    top_k=st.integers(1, 12),
)
def test_the_choice_is_among_the_fewest_tokens_that_hold_top_p(
    logits: list[float], uniform: float, top_p: float, top_k: int
) -> None:
    section = SamplerSection(temperature=1.0, top_p=top_p, top_k=top_k)
    token = sampler.choose(torch.tensor([logits]), torch.tensor([uniform]), section).item()
    order = np.argsort(-np.float32(logits), kind="stable")[:top_k]
    probabilities = np.exp(np.float64(np.float32(logits))[order])
    probabilities /= probabilities.sum()
    place = order.tolist().index(token)
    assert probabilities[:place].sum() < top_p + 1e-5


def test_draws_follow_the_probabilities() -> None:
    probabilities = torch.tensor([0.5, 0.3, 0.2])
    uniforms = torch.linspace(0, 1, 10_001)[:-1]
    section = SamplerSection(temperature=1.0, top_p=1.0)
    chosen = sampler.choose(probabilities.log().expand(10_000, 3), uniforms, section)
    shares = torch.bincount(chosen, minlength=3) / 10_000
    assert torch.allclose(shares, probabilities, atol=2e-3)


def test_a_caption_prompt_is_what_masking_makes_of_a_pair() -> None:
    image = [IMAGE + 1, IMAGE + 2]
    neighbor = Pair(text=(TEXT + 1,), image=(IMAGE + 3, IMAGE + 4))
    drawn = (*sampler.caption_prompt(image, [neighbor]), TEXT + 9, vocabulary.EOSS)
    whole = (*sampler.image_prompt([TEXT + 9], [neighbor]), *image, vocabulary.EOS)
    assert tuple(cm3.unmask(np.array(drawn)).tolist()) == whole


def test_a_prompt_that_leaves_no_room_is_refused(model: Transformer) -> None:
    with pytest.raises(ValueError, match="a prompt of 62 tokens and 8 new ones exceed the context of 64"):
        sampler.draw_images(model, [sampler.image_prompt([TEXT] * 60)], GREEDY, num_tokens=8, seed=0)
