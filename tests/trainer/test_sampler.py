from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.trainer import models
from tests.trainer.models import LIVE, hidden
from tokenizer_service import vocabulary
from trainer import choosing, prompts, sampler
from trainer.model import Transformer
from trainer.prompts import UNCONDITIONAL, Hole, Ids
from trainer.sampler import DRAWN, Request, SamplerSection

GREEDY = SamplerSection(temperature=0.0, guidance=1.0, max_text_tokens=6)
TEXT, IMAGE = vocabulary.TEXT_START, vocabulary.IMAGE_START


@pytest.fixture(scope="module")
def model() -> Transformer:
    return models.random(image_places=8, lookup_rows=500, dropout=0.5)


def image_of(*text: int) -> Ids:
    return prompts.image_prompt([TEXT + one for one in text])


def said(model: Transformer, *ids: int) -> torch.Tensor:
    """Logits of the next image token when everything is read again."""
    return model.image_logits(hidden(model, ids))


def test_images_drawn_with_the_cache_are_those_of_reading_everything_again(model: Transformer) -> None:
    rows = [image_of(0, 1), image_of(7, 8, 9)]
    requests = [Request(prompt=row, samples=2) for row in rows]
    codes_NT = sampler.draw_images(model, requests, GREEDY, num_tokens=8, seed=0)
    for prompt, codes in zip(np.repeat(np.array(rows, object), 2), codes_NT.tolist(), strict=True):
        ids = list(prompt)
        for code in codes:
            assert code == said(model, *ids).argmax().item()
            ids.append(code + IMAGE)


def test_guidance_mixes_with_the_stream_whose_text_was_cut(model: Transformer) -> None:
    prompt = image_of(3)
    section = GREEDY.model_copy(update={"guidance": 2.5})
    (codes,) = sampler.draw_images(model, [Request(prompt=prompt)], section, num_tokens=6, seed=0).tolist()
    drawn: list[int] = []
    for code in codes:
        c, u = (said(model, *start, *drawn) for start in (prompt, UNCONDITIONAL))
        assert code == choosing.guide(c, u, weight=2.5).argmax().item()
        drawn.append(code + IMAGE)


def test_two_term_guidance_reads_three_streams(model: Transformer) -> None:
    image = tuple(range(IMAGE, IMAGE + 4))
    prompt, image_only = (prompts.coming([image, words]) for words in ((TEXT + 2,), prompts.CUT))
    request = Request(prompt=prompt, image_only=image_only, samples=2)
    section = GREEDY.model_copy(update={"image_guidance": 1.2, "text_guidance": 4.0})
    codes, _ = sampler.draw_images(model, [request], section, num_tokens=6, seed=0).tolist()
    drawn: list[int] = []
    for code in codes:
        f, i, u = (said(model, *start, *drawn) for start in (prompt, image_only, UNCONDITIONAL))
        assert code == choosing.guide_twice(f, i, u, image=1.2, text=4.0).argmax().item()
        drawn.append(code + IMAGE)


def test_contrastive_decoding_is_against_the_stream_whose_text_was_cut(model: Transformer) -> None:
    prompt = image_of(3)
    section = GREEDY.model_copy(update={"method": "contrastive", "contrast_alpha": 0.5, "contrast_k": 4})
    (codes,) = sampler.draw_images(model, [Request(prompt=prompt)], section, num_tokens=6, seed=0).tolist()
    drawn: list[int] = []
    for code in codes:
        strong, weak = (said(model, *start, *drawn) for start in (prompt, UNCONDITIONAL))
        assert code == choosing.contrast(strong, weak, alpha=0.5, k=4).argmax().item()
        drawn.append(code + IMAGE)


def test_half_of_the_samples_are_drawn_by_cd_k_and_half_by_top_p(model: Transformer) -> None:
    requests = [Request(prompt=image_of(3), samples=6)]
    by = {
        method: sampler.draw_images(model, requests, SamplerSection(method=method), num_tokens=8, seed=4)
        for method in ("half", "contrastive", "top_p")
    }
    assert by["half"][0::2].tolist() == by["contrastive"][0::2].tolist()
    assert by["half"][1::2].tolist() == by["top_p"][1::2].tolist()
    assert by["contrastive"].tolist() != by["top_p"].tolist()


def test_a_caption_is_the_greedy_infill_and_ends_before_eoss(model: Transformer) -> None:
    rows = [prompts.caption_prompt([IMAGE + i, IMAGE + 2 * i, IMAGE]) for i in range(1, 6)]
    drawn = sampler.draw_texts(model, [Request(prompt=row) for row in rows], GREEDY, seed=0)
    for prompt, text in zip(rows, drawn, strict=True):
        ids = list(prompt)
        for token in text:
            assert TEXT <= token < TEXT + LIVE.num_text
            assert token == sampler.only_text(model.text_logits(hidden(model, ids))).argmax().item()
            ids.append(token)
        ended = sampler.only_text(model.text_logits(hidden(model, ids))).argmax().item() == vocabulary.EOSS
        assert len(text) == GREEDY.max_text_tokens or ended


def test_a_text_that_has_ended_does_not_cut_the_others_short(model: Transformer) -> None:
    section = SamplerSection(temperature=9.0, top_p=1.0, max_text_tokens=40)
    request = Request(prompt=prompts.caption_prompt([IMAGE]), samples=12)
    lengths = [len(text) for text in sampler.draw_texts(model, [request], section, seed=2)]
    assert min(lengths) < 2 * sampler.ENDED_EVERY < max(lengths)


@pytest.mark.parametrize("method", ["top_p", "contrastive", "half"])
@given(seed=st.integers(0, 2**32), texts=st.lists(st.integers(0, 29), min_size=1, max_size=3))
@settings(max_examples=10)
def test_a_sample_depends_on_seed_prompt_and_number_alone(
    model: Transformer, method: str, seed: int, texts: list[int]
) -> None:
    section = SamplerSection(method=method, temperature=1.0, top_p=0.9, guidance=3.0)
    mine, others = image_of(5, 6), [Request(prompt=image_of(text), samples=2) for text in texts]
    requests = [*others, Request(prompt=mine, samples=3), *others]
    among = sampler.draw_images(model, requests, section, num_tokens=6, seed=seed)
    alone = sampler.draw_images(model, [Request(prompt=mine)] * 2, section, num_tokens=6, seed=seed)
    assert among[2 * len(others) :][:2].tolist() == alone.tolist()


def test_samples_of_a_prompt_differ_and_repeat_by_seed(model: Transformer) -> None:
    section = SamplerSection(temperature=1.0, top_p=1.0, guidance=1.0)
    requests = [Request(prompt=image_of(0), samples=3)]
    first, again, other = (
        sampler.draw_images(model, requests, section, num_tokens=8, seed=seed) for seed in (1, 1, 2)
    )
    assert len({tuple(row) for row in first.tolist()}) == 3
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_images_have_only_live_codes_and_exactly_as_many_as_asked(model: Transformer) -> None:
    section = SamplerSection(temperature=50.0, top_p=1.0, guidance=1.0)
    request = Request(prompt=UNCONDITIONAL, samples=20)
    codes_NT = sampler.draw_images(model, [request], section, num_tokens=12, seed=0)
    assert codes_NT.shape == (20, 12)
    assert set(np.unique(codes_NT)) == set(range(LIVE.num_codes))


def test_what_is_given_stands_in_its_place_and_is_read(model: Transformer) -> None:
    prompt = prompts.infill([(TEXT,), tuple(range(IMAGE, IMAGE + 8))], Hole(1, 2, 6))
    given_ids = (DRAWN, IMAGE + 3, DRAWN, IMAGE + 7)
    request = Request(prompt=prompt, given=given_ids, samples=2)
    codes, _ = sampler.draw_images(model, [request], GREEDY, num_tokens=4, seed=0).tolist()
    ids = list(prompt)
    for code, forced in zip(codes, given_ids, strict=True):
        assert code + IMAGE == (said(model, *ids).argmax().item() + IMAGE if forced == DRAWN else forced)
        ids.append(code + IMAGE)


@pytest.mark.parametrize(
    ("given_ids", "message"),
    [((DRAWN,) * 3, "given are 3 ids for 4 tokens"), ((TEXT,) * 4, "given is 1024, which is no image id")],
)
def test_what_cannot_be_given_is_refused(model: Transformer, given_ids: Ids, message: str) -> None:
    request = Request(prompt=UNCONDITIONAL, given=given_ids)
    with pytest.raises(ValueError, match=message):
        sampler.draw_images(model, [request], GREEDY, num_tokens=4, seed=0)


def test_two_term_guidance_is_for_a_whole_call_and_not_for_cd_k(model: Transformer) -> None:
    plain, edit = (Request(prompt=image_of(1), image_only=one) for one in (None, image_of(2)))
    with pytest.raises(ValueError, match="1 of 2 requests have image_only"):
        sampler.draw_images(model, [plain, edit], GREEDY, num_tokens=4, seed=0)
    with pytest.raises(ValueError, match="'half', which knows no two-term guidance"):
        sampler.draw_images(model, [edit], SamplerSection(method="half"), num_tokens=4, seed=0)


def test_sampling_leaves_the_training_mode_as_it_was(model: Transformer) -> None:
    model.train()
    sampler.draw_images(model, [Request(prompt=UNCONDITIONAL)], GREEDY, num_tokens=2, seed=0)
    assert model.training


def test_a_prompt_that_leaves_no_room_is_refused(model: Transformer) -> None:
    request = Request(prompt=prompts.image_prompt([TEXT] * 60))
    with pytest.raises(ValueError, match="a prompt of 62 tokens and 8 new ones exceed the context of 64"):
        sampler.draw_images(model, [request], GREEDY, num_tokens=8, seed=0)


def test_the_head_that_is_computed_has_the_rows_of_the_whole_one(model: Transformer) -> None:
    state_ND = hidden(model, image_of(4))
    whole_NV = torch.nn.functional.linear(state_ND, model.tokens.weight)
    parts = [model.text_logits(state_ND), model.image_logits(state_ND)]
    torch.testing.assert_close(torch.cat(parts, dim=1), whole_NV)
    assert [one.shape[1] for one in parts] == [LIVE.text_stop, LIVE.num_codes]
