import math

import numpy as np
import pytest
import torch

from tokenizer_service import vocabulary
from tokenizer_service.vocabulary import Live
from trainer import evaluate
from trainer.cm3 import Batch
from trainer.evaluate import Losses
from trainer.model import ModelSection, Transformer, initialise

E, B, X, S = vocabulary.EOS, vocabulary.BREAK, vocabulary.EOSS, vocabulary.sentinel(0)
T, I = vocabulary.TEXT_START, vocabulary.IMAGE_START  # noqa: E741  # text and image ids
ALONE = [E, T, B, I, I, E]
WITH_ONE = [E, T, B, I, I, B, T, B, I, I, E]
MASKED = [E, S, B, I, I, E, S, T, X]


def batch(*documents: list[int], num_tokens: int) -> Batch:
    """One row."""
    ids = np.zeros((1, num_tokens), np.int64)
    numbers = np.full((1, num_tokens), -1, np.int32)
    positions = np.zeros((1, num_tokens), np.int32)
    at = 0
    for number, document in enumerate(documents):
        place = slice(at, at := at + len(document))
        ids[0, place], numbers[0, place], positions[0, place] = document, number, np.arange(len(document))
    return Batch.of(ids, numbers, positions)


def test_each_token_is_placed_by_its_pair_in_its_own_document() -> None:
    packed = batch(WITH_ONE, ALONE, MASKED, num_tokens=30)
    expected = ["neighbor"] * 6 + ["target_1"] * 5 + ["target_0"] * 6 + ["target_0"] * 6 + ["infill"] * 3
    assert evaluate.places(packed)[0].tolist() == [*expected, *["padding"] * 4]


def small_model() -> Transformer:
    section = ModelSection(num_layers=1, width=16, num_heads=2, context=32, init_std=0.5)
    return initialise(Transformer(section, Live(num_text=8, num_codes=8)), seed=0)


def test_the_first_token_of_a_document_and_padding_are_never_counted() -> None:
    losses = evaluate.batch_losses(small_model(), batch(WITH_ONE, MASKED, num_tokens=24))
    assert sum(losses.tokens.values()) == len(WITH_ONE) - 1 + len(MASKED) - 1
    assert losses.tokens["text", "infill", 0] == 1
    assert losses.tokens["image", "target_1", 0] == 2
    assert losses.tokens["image", "neighbor", 0] == 2


def test_packed_documents_cost_what_they_cost_alone() -> None:
    model = small_model()
    together = evaluate.evaluate(model, [batch(WITH_ONE, ALONE, num_tokens=20)])
    apart = evaluate.evaluate(model, [batch(WITH_ONE, num_tokens=11), batch(ALONE, num_tokens=9)])
    assert together.tokens == apart.tokens
    assert together.nats == pytest.approx(apart.nats, rel=1e-4)


def test_the_mean_over_buckets_weighs_tokens() -> None:
    losses = Losses(
        nats={("text", "infill", 64): 6.0, ("image", "target_0", 0): 2.0},
        tokens={("text", "infill", 64): 2, ("image", "target_0", 0): 2},
    )
    both = losses + losses
    assert both.mean() == 2.0
    assert both.mean(modality="text") == 3.0
    assert both.mean(place="target_0") == 1.0
    assert math.isnan(both.mean(modality="special"))
    assert both.table() == {
        "loss": 2.0,
        "loss/image": 1.0,
        "loss/text": 3.0,
        "loss/image/target_0": 1.0,
        "loss/text/infill": 3.0,
        "loss/from/0": 1.0,
        "loss/from/64": 3.0,
    }


def test_evaluation_is_without_dropout_and_leaves_no_gradient() -> None:
    section = ModelSection(num_layers=1, width=16, num_heads=2, context=32, init_std=0.5, dropout=0.9)
    model = initialise(Transformer(section, Live(num_text=8, num_codes=8)), seed=0)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.1)
    model.train()
    first, again = (evaluate.batch_losses(model, batch(ALONE, num_tokens=8)) for _ in range(2))
    assert first == again
    assert model.training
    assert all(weight.grad is None for weight in model.parameters())


@pytest.mark.parametrize(
    ("caption", "references", "score"),
    [
        ("Red Apple", ["red apple"], 1.0),
        ("apple", ["red apple", "pear"], 2 / 3),
        ("red red red", ["red apple"], 2 / 5),
        ("dog", ["cat"], 0.0),
        ("", ["cat"], 0.0),
        ("cat", [], 0.0),
    ],
)
def test_a_caption_scores_by_the_words_it_shares_with_its_best_reference(
    caption: str, references: list[str], score: float
) -> None:
    assert evaluate.word_f1(caption, references) == pytest.approx(score)
