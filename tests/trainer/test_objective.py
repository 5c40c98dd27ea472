"""The objective against a slow, literal restatement: a document at a time, a token at a time, in float64."""

from __future__ import annotations

import cmath
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from tests.trainer.test_cm3 import ROWS, SECTION, SEED, build, literal_rows, masked
from tokenizer_service import vocabulary
from tokenizer_service.vocabulary import Live
from trainer import attention, cm3
from trainer.model import ModelSection, Transformer, packed_inputs, rotation
from trainer.objective import Objective
from trainer.spans import MaskingSection

LIVE = Live(num_text=300, num_codes=300)
Rows = list[list[list[tuple[int, int]]]]


def model_of(variant: str, head: str = "by_modality", z_loss: float = 0.0) -> Transformer:
    """Every weight random: a block that is the identity hides mistakes."""
    section = ModelSection.model_validate(
        {
            "variant": variant,
            "num_layers": 2,
            "width": 16,
            "num_heads": 2,
            "context": 400,
            "head": head,
            "z_loss": z_loss,
        }
    )
    model = Transformer(section, LIVE)
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(torch.randn(weight.shape, generator=generator) * 0.3)
    return model


def literal_hidden(model: Transformer, ids: list[int]) -> Tensor:  # noqa: C901  # spelled out on purpose
    """[T, D] of one document alone."""
    section, weights = model.section, {name: w.double() for name, w in model.named_parameters()}
    modern = section.variant == "modern"
    wide = section.width // section.num_heads

    def norm(x: Tensor, name: str) -> Tensor:
        if modern:
            return x / (x.square().mean() + torch.finfo(torch.float32).eps).sqrt() * weights[name]
        return (x - x.mean()) / (x.var(correction=0) + 1e-5).sqrt()

    def plain(x: Tensor) -> Tensor:
        return (x - x.mean()) / (x.var(correction=0) + 1e-5).sqrt()

    def turned(x: Tensor, place: int) -> Tensor:
        pairs = torch.complex(x[: wide // 2], x[wide // 2 :])
        turns = [cmath.exp(1j * place * 10_000.0 ** (-2 * i / wide)) for i in range(wide // 2)]
        pairs = pairs * torch.tensor(turns, dtype=torch.complex128)
        return torch.cat((pairs.real, pairs.imag))

    rows = model.rows(torch.tensor(ids)).tolist()
    states = [weights["tokens.weight"][row] for row in rows]
    if not modern:
        states = [state + weights["positions.weight"][place] for place, state in enumerate(states)]
    for layer in range(section.num_layers):
        at = f"blocks.{layer}."
        inner = [weights[at + "qkv.weight"] @ norm(state, at + "before_attention.weight") for state in states]
        mixed = []
        for place in range(len(states)):
            heads = []
            for head in range(section.num_heads):
                part = slice(head * wide, (head + 1) * wide)
                q, k, v = ([x.view(3, -1)[one][part] for x in inner] for one in range(3))
                if modern:
                    q, k = ([turned(plain(x), i) for i, x in enumerate(xs)] for xs in (q, k))
                scores = torch.stack([q[place] @ k[other] / wide**0.5 for other in range(place + 1)])
                heads.append(sum(p * v[other] for other, p in enumerate(scores.softmax(0))))
            mixed.append(weights[at + "attention_out.weight"] @ torch.cat(heads))
        states = [state + more for state, more in zip(states, mixed, strict=True)]
        ups = [weights[at + "up.weight"] @ norm(state, at + "before_feed_forward.weight") for state in states]
        if modern:
            acted = [functional.silu(up.chunk(2)[0]) * up.chunk(2)[1] for up in ups]
        else:
            acted = [up.relu() for up in ups]
        states = [state + weights[at + "down.weight"] @ act for state, act in zip(states, acted, strict=True)]
    return torch.stack([norm(state, "last_norm.weight") for state in states])


def literal_losses(model: Transformer, ids: list[int]) -> Tensor:
    """Nats, and z-loss, of each token of a document but its first."""
    hidden, middle = literal_hidden(model, ids), model.live.text_stop
    found = []
    for place, (_, target) in enumerate(pairwise(ids)):
        scores = model.tokens.weight.double() @ hidden[place]
        row = int(model.rows(torch.tensor(target)))
        if model.section.head == "by_modality":
            image = target >= vocabulary.IMAGE_START
            scores, row = (scores[middle:], row - middle) if image else (scores[:middle], row)
        log_z = scores.logsumexp(0)
        found.append(log_z - scores[row] + model.section.z_weight * log_z**2)
    return torch.stack(found)


def gradients(model: Transformer, loss: Tensor) -> dict[str, Tensor]:
    model.zero_grad()
    loss.backward()
    return {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}


SMALL = st.lists(
    st.lists(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4)), min_size=1, max_size=2), max_size=2),
    min_size=1,
    max_size=2,
).filter(any)


@pytest.mark.long
@pytest.mark.parametrize("variant", ["paper", "modern"])
@pytest.mark.parametrize(("head", "z_loss"), [("by_modality", 0.0), ("flat", 1e-2)])
@given(rows=SMALL, section=SECTION, seed=SEED)
@settings(max_examples=8)
def test_loss_and_gradients_are_those_of_the_literal_objective(
    variant: str, head: str, z_loss: float, rows: Rows, section: MaskingSection, seed: int
) -> None:
    model = model_of(variant, head, z_loss)
    rows_BT, layout = build(rows, room=3 * section.max_spans)
    batch, _ = masked(rows_BT, layout, section, seed)
    share_BT = cm3.counted(batch, section) * 0.25
    loss, _ = Objective(model)(*batch, share_BT)
    found = gradients(model, loss)
    documents = [ids for row in literal_rows(rows_BT, layout, section, seed) for ids in row]
    literal = 0.25 * torch.cat([literal_losses(model, ids) for ids in documents]).sum()
    expected = gradients(model, literal)
    assert loss.item() == pytest.approx(literal.item(), rel=1e-5)
    assert found.keys() == expected.keys()
    for name, gradient in found.items():
        assert torch.allclose(gradient, expected[name], rtol=1e-3, atol=1e-4), name


@pytest.mark.parametrize("variant", ["paper", "modern"])
@pytest.mark.parametrize("kernel", ["runs", "dense"])
@given(rows=ROWS.filter(any), section=SECTION, seed=SEED)
@settings(max_examples=15)
def test_a_packed_document_costs_what_it_costs_alone(
    variant: str, kernel: attention.Kernel, rows: Rows, section: MaskingSection, seed: int
) -> None:
    model = model_of(variant).eval()
    batch, _ = masked(*build(rows, room=3 * section.max_spans), section, seed)
    packed_BT = nll(model, batch, kernel)
    for row, alone, place in documents_of(batch):
        num_targets = max(int(place.sum()) - 1, 1)
        apart = nll(model, alone, "dense").sum().item() / num_targets
        together = packed_BT[row][place[1:] & place[:-1]].sum().item() / num_targets
        assert together == pytest.approx(apart, abs=1e-5, rel=1e-5)


def nll(model: Transformer, batch: cm3.Batch, kernel: attention.Kernel) -> Tensor:
    ids_BT, documents_BT, positions_BT = batch
    with torch.no_grad():
        hidden = model(packed_inputs(ids_BT[:, :-1], documents_BT[:, :-1], positions_BT[:, :-1], kernel))
        return model.nll(hidden, ids_BT[:, 1:], attention.counted(documents_BT))


def documents_of(batch: cm3.Batch) -> Iterator[tuple[int, cm3.Batch, Tensor]]:
    """Row, a batch of one document alone, and where in the row it lies."""
    for row in range(len(batch.ids_BT)):
        for number in range(int(batch.documents_BT[row].max()) + 1):
            place = batch.documents_BT[row] == number
            ids = batch.ids_BT[row][place][None]
            index = torch.arange(ids.shape[1], dtype=torch.int32)[None]
            yield row, cm3.Batch(ids, torch.zeros_like(index), index), place


@pytest.mark.parametrize("variant", ["paper", "modern"])
@pytest.mark.parametrize("kernel", ["runs", "dense"])
def test_no_token_attends_to_another_document(variant: str, kernel: attention.Kernel) -> None:
    """What comes out of one document has no derivative by what goes into another."""
    model = model_of(variant)
    documents_BT = torch.tensor([[0] * 7 + [1] * 5 + [2] * 6 + [-1] * 3, [0] * 10 + [1] * 11])
    x_BTD = torch.randn(2, 21, 16, generator=torch.Generator().manual_seed(1)).requires_grad_()
    positions_BT = torch.arange(21).expand(2, -1)
    turned = rotation(positions_BT, 8) if variant == "modern" else None
    seen, y_BTD = attention.mask(documents_BT, kernel), x_BTD
    for block in model.blocks:
        y_BTD = block(y_BTD, seen, turned)
    for row, number in [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)]:
        inside = (documents_BT == number) & (torch.arange(2)[:, None] == row)
        (slope,) = torch.autograd.grad(y_BTD[inside].sum(), x_BTD, retain_graph=True)
        assert slope[inside].abs().max() > 0
        assert slope[~inside].abs().max() == 0


def test_a_document_with_a_hole_sees_itself_across_it() -> None:
    """What is left of a document behind revoked tokens is still one document."""
    documents_BT = torch.tensor([[0, 0, -1, -1, 0, 0, 1, 1]])
    assert attention.runs(documents_BT) is None
    seen = attention.mask(documents_BT, "runs")
    assert isinstance(seen, Tensor)
    assert seen[0, 4].tolist() == [True, True, False, False, True, False, False, False]
    assert attention.runs(torch.tensor([[0, 0, 1, -1], [0, 1, 1, 1]])) == attention.Runs((2, 1, 1, 1, 3))


def test_sentinels_may_be_free() -> None:
    rows_BT, layout = build([[[(3, 4)]]], room=6)
    section = MaskingSection(max_spans=2, whole_share=1.0, mean_spans=50.0)
    batch, _ = masked(rows_BT, layout, section, 0)
    free = section.model_copy(update={"sentinels": "free"})
    every, some = cm3.counted(batch, section), cm3.counted(batch, free)
    targets = batch.ids_BT[:, 1:].numpy()
    assert (every.numpy() & vocabulary.is_sentinel(targets)).sum() == 4
    assert np.array_equal(some.numpy(), every.numpy() & ~vocabulary.is_sentinel(targets))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_the_loss_under_autocast_is_near_that_without(dtype: torch.dtype) -> None:
    model = model_of("modern")
    batch, _ = masked(*build([[[(3, 4)]] * 2] * 2, room=6), MaskingSection(max_spans=2), 3)
    share_BT = cm3.counted(batch, MaskingSection()) / 10
    exact, _ = Objective(model)(*batch, share_BT)
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        loss, _ = Objective(model)(*batch, share_BT)
    assert loss.item() == pytest.approx(exact.item(), rel=0.03 if dtype == torch.bfloat16 else 1e-6)
    half, whole = gradients(model, loss), gradients(model, exact)
    for name, gradient in whole.items():
        assert functional.cosine_similarity(gradient.flatten(), half[name].flatten(), dim=0) > 0.98, name
