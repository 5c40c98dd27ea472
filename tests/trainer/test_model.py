import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tokenizer_service import vocabulary
from tokenizer_service.vocabulary import Live
from trainer import cross_entropy
from trainer import model as models
from trainer.lookup import captioned
from trainer.model import ModelSection, Transformer, initialise, packed_inputs

LIVE = Live(num_text=40, num_codes=24)
SECTION = ModelSection(
    num_layers=2, width=32, num_heads=4, context=48, image_places=8, lookup_rows=500, init_std=0.3
)


def trained_looking(section: ModelSection = SECTION, live: Live = LIVE) -> Transformer:
    """Every weight random, the zero ones too: a block that is the identity hides mistakes."""
    model = initialise(Transformer(section, live), seed=3)
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(torch.randn(weight.shape, generator=generator) * 0.3)
    return model.eval()


def live_ids(shape: tuple[int, ...], *, seed: int = 0) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    text = vocabulary.from_text(rng.integers(0, LIVE.num_text, shape)).astype(np.int64)
    image = vocabulary.from_codes(rng.integers(0, LIVE.num_codes, shape)).astype(np.int64)
    return torch.from_numpy(np.where(rng.random(shape) < 0.5, text, image))


def alone(ids_BT: torch.Tensor) -> models.Inputs:
    positions_BT = torch.arange(ids_BT.shape[1]).expand_as(ids_BT)
    return packed_inputs(ids_BT, torch.zeros_like(ids_BT), positions_BT)


@given(num_text=st.integers(1, vocabulary.MAX_TEXT), num_codes=st.integers(1, vocabulary.MAX_CODES))
@settings(max_examples=30)
def test_live_ids_fill_the_rows_without_gap_or_overlap(num_text: int, num_codes: int) -> None:
    live = Live(num_text=num_text, num_codes=num_codes)
    model = Transformer(ModelSection(num_layers=1, width=8, num_heads=1, context=8), LIVE)
    model.live = live
    text = torch.arange(vocabulary.TEXT_START + num_text)
    image = torch.arange(vocabulary.IMAGE_START, vocabulary.IMAGE_START + num_codes)
    rows = model.rows(torch.cat((text, image)))
    assert torch.equal(rows, torch.arange(live.rows))


def test_a_full_vocabulary_maps_every_id_to_itself() -> None:
    model = Transformer(ModelSection(num_layers=1, width=8, num_heads=1, context=8), LIVE)
    model.live = Live(num_text=vocabulary.MAX_TEXT, num_codes=vocabulary.MAX_CODES)
    ids = torch.arange(vocabulary.SIZE)
    assert torch.equal(model.rows(ids), ids)


def test_weights_begin_as_the_table_says() -> None:
    section = ModelSection(num_layers=2, width=64, num_heads=4, context=64, image_places=8)
    model = initialise(Transformer(section, LIVE), seed=0)
    for name, weight in model.named_parameters():
        if "attention_out" in name or "down" in name or "rows" in name:
            assert not weight.any(), name
        else:
            std = 0.0002 if name.startswith(("positions", "places")) else 0.006
            assert weight.abs().max() <= 3 * std, name
            assert weight.std().item() == pytest.approx(std, rel=0.1), name


def test_the_same_seed_draws_the_same_weights_and_another_seed_others() -> None:
    first, again, other = (initialise(Transformer(SECTION, LIVE), seed=s).tokens.weight for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_fresh_model_is_the_identity_between_embedding_and_head() -> None:
    model = initialise(Transformer(SECTION, LIVE), seed=0).eval()
    inputs = alone(live_ids((2, 9)))
    embedded = model.tokens(model.rows(inputs.ids_BT)) + model.positions(inputs.positions_BT)
    embedded = embedded + model.places(captioned(inputs.ids_BT, inputs.positions_BT, 8).place_BT.clamp(max=8))
    assert torch.allclose(model(inputs), models.normalise(embedded))


def test_no_token_sees_a_later_one() -> None:
    model, ids_BT = trained_looking(), live_ids((1, 20))
    changed_BT = ids_BT.clone()
    changed_BT[0, 12] = vocabulary.EOS
    before, after = model(alone(ids_BT)), model(alone(changed_BT))
    assert torch.allclose(before[:, :12], after[:, :12], atol=1e-5)
    assert not torch.allclose(before[:, 12:], after[:, 12:], atol=1e-3)


@given(cut=st.integers(2, 18), seed=st.integers(0, 1000))
@settings(max_examples=15)
def test_a_packed_document_is_read_as_if_it_were_alone(cut: int, seed: int) -> None:
    model, ids_BT = trained_looking(), live_ids((1, 20), seed=seed)
    ids_BT[0, [0, cut]] = vocabulary.EOS
    index = torch.arange(20)[None]
    documents_BT = (index >= cut).long()
    packed = model(packed_inputs(ids_BT, documents_BT, torch.where(index >= cut, index - cut, index)))
    for start, stop in ((0, cut), (cut, 20)):
        assert torch.allclose(packed[:, start:stop], model(alone(ids_BT[:, start:stop])), atol=1e-4)


def test_padding_yields_finite_numbers() -> None:
    ids_BT = torch.full((1, 6), vocabulary.PAD)
    hidden = trained_looking()(packed_inputs(ids_BT, torch.full_like(ids_BT, -1), torch.arange(6)[None]))
    assert bool(hidden.isfinite().all())


@pytest.mark.parametrize("head", ["by_modality", "flat"])
def test_the_loss_is_the_cross_entropy_over_the_rows_that_compete(head: str) -> None:
    model = trained_looking(SECTION.model_copy(update={"head": head}))
    ids_BT = live_ids((2, 13))
    hidden_BTD = model(alone(ids_BT[:, :-1]))
    targets_BT = ids_BT[:, 1:]
    counted_BT = torch.rand(targets_BT.shape, generator=torch.Generator().manual_seed(0)) < 0.7
    nll_BT = model.nll(hidden_BTD, targets_BT, counted_BT)
    text, image = model.text_logits(hidden_BTD), model.image_logits(hidden_BTD)
    both = torch.cat((text, image), dim=-1).log_softmax(-1)
    split = torch.cat((text.log_softmax(-1), image.log_softmax(-1)), dim=-1)
    scores = both if head == "flat" else split
    expected = -scores.gather(-1, model.rows(targets_BT)[..., None]).squeeze(-1)
    assert torch.allclose(nll_BT, torch.where(counted_BT, expected, 0.0), atol=1e-4)


def test_the_loss_and_its_gradient_do_not_depend_on_the_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for logits in (1 << 26, 200):
        monkeypatch.setattr(cross_entropy, "CHUNK_LOGITS", logits)
        model = trained_looking()
        ids_BT = live_ids((2, 15))
        loss, nll = model.loss(model(alone(ids_BT[:, :-1])), ids_BT[:, 1:], torch.ones(2, 14))
        loss.backward()
        found.append((nll, model.tokens.weight.grad))
    assert torch.allclose(found[0][0], found[1][0], atol=1e-5)
    assert torch.allclose(found[0][1], found[1][1], atol=1e-4)


def test_normalised_queries_and_keys_bound_the_attention() -> None:
    section = SECTION.model_copy(update={"qk_norm": True})
    plain, normed = trained_looking(), trained_looking(section)
    inputs = alone(live_ids((1, 12)))
    loud = {name: weight * (100 if "qkv" in name else 1) for name, weight in normed.state_dict().items()}
    before = normed(inputs)
    normed.load_state_dict(loud)
    assert bool(normed(inputs).isfinite().all())
    assert not torch.allclose(before, plain(inputs), atol=1e-3)


def test_heads_that_do_not_divide_the_width_are_refused() -> None:
    with pytest.raises(ValidationError, match="num_heads 3 does not divide width 32"):
        ModelSection(width=32, num_heads=3)
