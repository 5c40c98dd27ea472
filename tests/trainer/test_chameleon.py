"""What `export --layout chameleon` writes, as Hugging Face's transformers reads it."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from transformers import AutoProcessor, AutoTokenizer, ChameleonForConditionalGeneration

from tests.trainer.test_model import alone, trained_looking
from tokenizer_service import text, vocabulary, vq
from tokenizer_service.bodies import ConvolutionalConfig
from tokenizer_service.quantizers import EMAConfig, IBQConfig, LookupConfig, SimVQConfig, UnitConfig
from tokenizer_service.vocabulary import Live
from trainer import chameleon
from trainer.chameleon_processor import IMAGE_PLACE, Tokenizers
from trainer.model import ModelSection, Transformer
from trainer.prompts import Hole, coming, infill

TEXTS = ["a red car, 1991", "naïve café 東京", "a blue car"]
BPE = text.fit(TEXTS * 3, entries=300)
BODY = ConvolutionalConfig(channels=32, multipliers=(1, 2), blocks=1, attention_levels=(1,), z_channels=8)
CODES, SIDE = 16, 16
LIVE = Live(num_text=BPE.num_entries, num_codes=CODES)
SHAPES = {
    "two heads": {"num_layers": 1, "width": 16, "num_heads": 2},
    "one head": {"num_layers": 2, "width": 24, "num_heads": 1},
    "wide": {"num_layers": 3, "width": 96, "num_heads": 6},
}
Peer = ChameleonForConditionalGeneration


def image(seed: int = 0, *, quantizer: Any = None) -> vq.VQ:
    config = vq.VQConfig(codebook_size=CODES, quantizer=quantizer or UnitConfig(dim=4), body=BODY)
    return vq.new(config, torch.Generator().manual_seed(seed)).eval()


def tokenizers(of_image: vq.VQ) -> Tokenizers:
    return Tokenizers(text=BPE, image=of_image, side=SIDE)


def modern(**shape: Any) -> Transformer:
    return trained_looking(ModelSection(variant="modern", context=96, **shape), LIVE)


def loaded(folder: Path) -> Peer:
    """Nothing is missing, left over, or of another shape."""
    found, told = Peer.from_pretrained(folder, output_loading_info=True)
    assert not any(told.values()), told
    assert isinstance(found, Peer)
    return found.eval()


@pytest.fixture(scope="module", params=SHAPES)
def pair(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Transformer, Peer]]:
    model, folder = modern(**SHAPES[request.param]), tmp_path_factory.mktemp("chameleon")
    chameleon.write(folder, model, {})
    with torch.inference_mode():
        yield model, loaded(folder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with the files of its tokenizers."""
    made = tmp_path_factory.mktemp("whole")
    chameleon.write(made, modern(**SHAPES["two heads"]), {"step": 7}, tokenizers(image()))
    return made


def live_ids(shape: tuple[int, int]) -> torch.Tensor:
    """Specials, text and image ids, mixed."""
    rng = np.random.default_rng(1)
    live = [*range(LIVE.text_stop), *range(vocabulary.IMAGE_START, vocabulary.IMAGE_START + CODES)]
    return torch.from_numpy(rng.choice(live, shape))


def test_hidden_states_and_logits_of_all_live_ids_are_the_same(pair: tuple[Transformer, Peer]) -> None:
    model, peer = pair
    ids_BT = live_ids((2, 80))
    hidden_BTD = model(alone(ids_BT))
    theirs_BTD = peer.model(ids_BT).last_hidden_state
    torch.testing.assert_close(theirs_BTD, hidden_BTD, atol=1e-4, rtol=0)
    logits_BTV, codes = (
        peer.lm_head(theirs_BTD),
        slice(vocabulary.IMAGE_START, vocabulary.IMAGE_START + CODES),
    )
    text_BTV, image_BTV = model.text_logits(hidden_BTD), model.image_logits(hidden_BTD)
    torch.testing.assert_close(logits_BTV[..., : LIVE.text_stop], text_BTV, atol=1e-4, rtol=0)
    torch.testing.assert_close(logits_BTV[..., codes], image_BTV, atol=1e-4, rtol=0)


def test_their_forward_differs_by_its_mask_of_image_and_unused_ids_alone(
    pair: tuple[Transformer, Peer],
) -> None:
    model, peer = pair
    ids_BT = live_ids((1, 40))
    logits_BTV = peer(ids_BT).logits
    masked_V = (logits_BTV == torch.finfo(torch.float32).min).all(dim=(0, 1))
    assert torch.equal(masked_V, torch.arange(vocabulary.SIZE) >= LIVE.text_stop)
    ours_BTV = model.text_logits(model(alone(ids_BT)))
    torch.testing.assert_close(logits_BTV[..., : LIVE.text_stop], ours_BTV, atol=1e-4, rtol=0)


def test_they_write_the_same_likeliest_text(pair: tuple[Transformer, Peer]) -> None:
    model, peer = pair
    ids_BT = live_ids((1, 20))
    theirs = peer.generate(
        ids_BT, attention_mask=torch.ones_like(ids_BT), max_new_tokens=24, do_sample=False, eos_token_id=-1
    )
    for _ in range(24):
        following_B1 = model.text_logits(model(alone(ids_BT))[:, -1:]).argmax(dim=-1)
        ids_BT = torch.cat((ids_BT, following_B1), dim=1)
    assert torch.equal(theirs, ids_BT)


def test_weights_have_the_names_that_vllm_expects(folder: Path) -> None:
    """As its chameleon.py has them: q, k and v become one matrix there, gate and up another."""
    layer = [
        *(f"self_attn.{name}_proj.weight" for name in "qkvo"),
        *(f"self_attn.{name}_norm.{kind}" for name in "qk" for kind in ("weight", "bias")),
        *(f"mlp.{name}_proj.weight" for name in ("gate", "up", "down")),
        "input_layernorm.weight",
        "post_attention_layernorm.weight",
    ]
    expected = {"model.embed_tokens.weight", "model.norm.weight", *(f"model.layers.0.{one}" for one in layer)}
    with safe_open(folder / "model.safetensors", "pt") as file:
        names = set(file.keys())
        assert file.get_slice("model.layers.0.self_attn.q_norm.weight").get_shape() == [2, 8]
    assert {name for name in names if not name.startswith("model.vqmodel.")} == expected


@pytest.mark.parametrize("words", [*TEXTS, "", " two  spaces\n", "7 + 8", "\u1e9b\u0323"])
def test_their_tokenizer_gives_our_ids_and_our_text_back(folder: Path, words: str) -> None:
    theirs = AutoTokenizer.from_pretrained(folder)
    (entries,) = BPE.encode([words])
    ours = vocabulary.from_text(entries).tolist()
    assert theirs(words, add_special_tokens=False).input_ids == ours
    assert theirs(words).input_ids == [vocabulary.EOS, *ours]
    assert theirs.decode(ours, skip_special_tokens=True) == BPE.decode(entries)


def test_their_tokenizer_knows_specials_and_codes_by_name(folder: Path) -> None:
    theirs = AutoTokenizer.from_pretrained(folder)
    found = theirs("<eos>a<break><sentinel:3><eoss><pad>", add_special_tokens=False).input_ids
    specials = [vocabulary.EOS, vocabulary.BREAK, vocabulary.sentinel(3), vocabulary.EOSS, vocabulary.PAD]
    assert [one for one in found if one < vocabulary.TEXT_START] == specials
    assert theirs.convert_tokens_to_ids("IMGIMGBCZ") == vocabulary.IMAGE_START + 12
    assert (theirs.bos_token_id, theirs.pad_token_id) == (vocabulary.EOS, vocabulary.PAD)


def test_their_processor_asks_for_a_caption_as_ours_is_asked_for(folder: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    processor = AutoProcessor.from_pretrained(folder)
    made = processor(text="<sentinel:0><image>", images=Image.fromarray(pixels))
    places = [IMAGE_PLACE] * (SIDE // 2) ** 2
    assert made["input_ids"].tolist() == [[*infill(((), places), Hole(0, 0, 0))]]
    expected = torch.from_numpy(pixels).permute(2, 0, 1)[None] / 127.5 - 1
    torch.testing.assert_close(made["pixel_values"], expected, atol=1e-6, rtol=0)


def test_their_processor_completes_a_text_where_told_so(folder: Path) -> None:
    made = AutoProcessor.from_pretrained(folder)(text="a car<break>", return_for_text_completion=True)
    (words,) = BPE.encode(["a car"])
    assert made["input_ids"].tolist() == [[*coming([vocabulary.from_text(words).tolist()])]]


@pytest.mark.parametrize(
    "quantizer",
    [
        UnitConfig(dim=4),
        UnitConfig(dim=4, codebook="learnt"),
        LookupConfig(dim=8),
        EMAConfig(dim=8),
        SimVQConfig(dim=8),
    ],
    ids=lambda one: f"{one.kind} {getattr(one, 'codebook', '')}",
)
def test_they_make_the_same_tokens_of_a_picture(tmp_path: Path, quantizer: Any) -> None:
    ours = image(3, quantizer=quantizer)
    chameleon.write(tmp_path, modern(**SHAPES["two heads"]), {}, tokenizers(ours))
    pictures = torch.rand(4, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.inference_mode():
        theirs = loaded(tmp_path).get_image_tokens(pictures)
        expected = ours.encode(pictures).flatten(1) + vocabulary.IMAGE_START
    assert torch.equal(theirs.long(), expected)
    assert len(expected.unique()) > 1


@pytest.mark.parametrize(
    "config",
    [
        vq.VQConfig(codebook_size=CODES),
        vq.VQConfig(codebook_size=CODES, quantizer=IBQConfig(dim=4), body=BODY),
    ],
    ids=["another body", "another rule"],
)
def test_an_image_tokenizer_of_another_kind_is_replaced_by_one_that_refuses_pictures(
    tmp_path: Path, config: vq.VQConfig
) -> None:
    ours = vq.new(config, torch.Generator()).eval()
    chameleon.write(tmp_path, modern(**SHAPES["two heads"]), {}, tokenizers(ours))
    with pytest.raises(RuntimeError, match="to have 1 channels, but got 3 channels"):
        loaded(tmp_path).get_image_tokens(torch.zeros(1, 3, SIDE, SIDE))


def test_loading_says_nothing_of_warnings(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "transformers"):
        logging.getLogger("transformers").addHandler(caplog.handler)
        loaded(folder)
        AutoProcessor.from_pretrained(folder)
        logging.getLogger("transformers").removeHandler(caplog.handler)
    assert not caplog.records
    assert json.loads((folder / "config.json").read_text())["pardalis"] == {"step": 7}


@pytest.mark.parametrize(
    ("section", "told"),
    [
        ({"variant": "paper"}, r'trainer\.model\.variant is "paper"'),
        ({"qk_norm": False}, r"trainer\.model\.qk_norm is false"),
        ({"image_places": 64}, r"trainer\.model\.image_places is 64"),
        ({"lookup_rows": 500}, r"trainer\.model\.lookup_rows is 500"),
    ],
)
def test_a_model_that_has_no_place_in_their_layout_is_refused(section: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        chameleon.check(ModelSection.model_validate({"variant": "modern", **section}))


def test_a_text_tokenizer_with_an_entry_called_like_an_image_id_is_refused(tmp_path: Path) -> None:
    bpe = text.fit(["5IMGIMGHZ"] * 9, entries=300)
    live = Live(num_text=bpe.num_entries, num_codes=CODES)
    model = trained_looking(ModelSection(variant="modern", num_layers=1, width=16, num_heads=2), live)
    with pytest.raises(ValueError, match="has an entry IMGIMGHZ"):
        chameleon.write(tmp_path, model, {}, Tokenizers(text=bpe, image=image(), side=SIDE))
