from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.trainer import models
from tokenizer_service import vocabulary
from trainer import prefill, prompts
from trainer.decoding import Decoder, Slot
from trainer.model import Transformer
from trainer.prompts import Hole, Ids, Pair

TEXT, IMAGE = vocabulary.TEXT_START, vocabulary.IMAGE_START
SHAPES: dict[str, dict[str, Any]] = {
    "paper": {"variant": "paper"},
    "modern": {"variant": "modern"},
    "paper with places and a lookup": {"variant": "paper", "image_places": 8, "lookup_rows": 500},
    "modern with places and a lookup": {"variant": "modern", "image_places": 8, "lookup_rows": 500},
}
RAGGED: tuple[Ids, ...] = (
    prompts.UNCONDITIONAL,
    prompts.image_prompt([TEXT + 1, TEXT + 2]),
    prompts.image_prompt([TEXT + 3], [Pair(text=(TEXT + 4,) * 5, image=(IMAGE + 1, IMAGE + 2))]),
    prompts.infill([(TEXT + 5,), tuple(range(IMAGE, IMAGE + 6))], Hole(1, 2, 4)),
    prompts.image_prompt([TEXT + 6] * 3),
)


@pytest.fixture(scope="module", params=list(SHAPES))
def model(request: pytest.FixtureRequest) -> Transformer:
    return models.random(dropout=0.5, **SHAPES[request.param])


@torch.inference_mode()
def states(model: Transformer, rows: list[Ids], new_BT: torch.Tensor) -> list[torch.Tensor]:
    """[B, D] behind the prompts, and behind each new token."""
    num_new = new_BT.shape[1]
    decoder = Decoder.start(model, rows, num_new=num_new, engine="eager")
    found = [decoder.last_BD]
    for step in range(num_new):
        slot = Slot(at_1=torch.tensor([step]), stop=step + 1, unseen_S=None)
        found.append(decoder(new_BT[:, step], slot))
    return found


def images(count: int, num_new: int, *, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(IMAGE, IMAGE + models.LIVE.num_codes, (count, num_new), generator=generator)


@pytest.mark.long
@given(
    rows=st.lists(st.sampled_from(RAGGED), min_size=1, max_size=8),
    num_new=st.integers(1, 9),
    seed=st.integers(0, 99),
)
@settings(max_examples=15)
def test_states_behind_a_cache_are_those_of_reading_everything_again(
    model: Transformer, rows: list[Ids], num_new: int, seed: int
) -> None:
    new_BT = images(len(rows), num_new, seed=seed)
    for step, states_BD in enumerate(states(model, rows, new_BT)):
        again = [
            models.hidden(model, [*p, *new[:step].tolist()]) for p, new in zip(rows, new_BT, strict=True)
        ]
        torch.testing.assert_close(states_BD, torch.cat(again), atol=2e-4, rtol=2e-4)


def test_rows_that_share_a_prompt_are_as_they_are_one_by_one(model: Transformer) -> None:
    rows = [RAGGED[2]] * 4 + [RAGGED[1]] * 2 + [RAGGED[2]] * 2
    new_BT = images(len(rows), 6, seed=3)
    together = states(model, rows, new_BT)
    for b, prompt in enumerate(rows):
        for all_BD, one_BD in zip(together, states(model, [prompt], new_BT[b : b + 1]), strict=True):
            torch.testing.assert_close(all_BD[b : b + 1], one_BD, atol=2e-4, rtol=2e-4)


def test_texts_are_continued_like_images(model: Transformer) -> None:
    prompt = prompts.caption_prompt([IMAGE + 1, IMAGE + 2], instruction=[TEXT + 9])
    new_BT = torch.tensor([[TEXT + 1, TEXT + 2, TEXT + 3]])
    for step, states_BD in enumerate(states(model, [prompt], new_BT)):
        again = models.hidden(model, [*prompt, *new_BT[0, :step].tolist()])
        torch.testing.assert_close(states_BD, again, atol=2e-4, rtol=2e-4)


def test_a_prompt_is_kept_once_however_many_rows_go_on_from_it() -> None:
    model = models.random()
    decoder = Decoder.start(model, [RAGGED[2]] * 6 + [RAGGED[0]] * 6, num_new=5, engine="eager")
    kept = [tuple(kind.keys_LGPE.shape) for kind in decoder.kinds]
    assert kept == [(2, 4, len(RAGGED[2]), 8), (2, 4, len(RAGGED[0]), 8)]


def test_many_prompts_are_read_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    model = models.random()
    whole = prefill.read(model, RAGGED)
    monkeypatch.setattr(prefill, "READ_TOKENS", 8)
    for one, other in zip(whole, prefill.read(model, RAGGED), strict=True):
        torch.testing.assert_close(one.last_D, other.last_D, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(one.keys_LHPE, other.keys_LHPE, atol=1e-4, rtol=1e-4)


@torch.inference_mode()
def captured(model: Transformer, rows: list[Ids], new_BT: torch.Tensor) -> list[torch.Tensor]:
    """The same as :func:`states`, as a graph sees it: prompts padded, all slots looked at, some masked."""
    num_new = new_BT.shape[1]
    decoder = Decoder.start(model, rows, num_new=num_new, engine="compile")
    found, slots_S = [decoder.last_BD], torch.arange(num_new)
    for step in range(num_new):
        slot = Slot(at_1=slots_S[step : step + 1], stop=num_new, unseen_S=slots_S > step)
        found.append(decoder(new_BT[:, step], slot))
    return found


def test_slots_and_padding_that_are_masked_change_nothing(model: Transformer) -> None:
    rows = [RAGGED[2]] * 2 + [RAGGED[1], RAGGED[4]]
    new_BT = images(len(rows), 6, seed=5)
    for one_BD, other_BD in zip(states(model, rows, new_BT), captured(model, rows, new_BT), strict=True):
        torch.testing.assert_close(one_BD, other_BD, atol=2e-4, rtol=2e-4)


def test_a_text_that_may_grow_too_long_is_refused_with_what_it_can_be_lowered_by() -> None:
    model = models.random()
    with pytest.raises(
        ValueError, match=r"exceed the context of .* lower trainer\.sampler\.max_text_tokens$"
    ):
        Decoder.start(model, [RAGGED[0]], num_new=model.section.context, engine="eager")
