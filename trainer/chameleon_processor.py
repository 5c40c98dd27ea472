"""Files beside a model in Chameleon's layout that make ids of text and pictures: tokenizer and processor.

Both programs write text alone, so what their processor lays out by itself is the question for a caption:
``<sentinel:0><image>`` becomes ``<eos> <sentinel:0> <break> I <eos> <sentinel:0>``, whose answer ends with
``<eoss>``. Other documents, those with neighbors above all, are laid out by the caller, as ids.

The surprising rule: all is written as JSON that transformers reads, and transformers is not asked.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from tokenizer_service import vocabulary
from tokenizer_service.text import TextTokenizer
from tokenizer_service.vocabulary import Live
from tokenizer_service.vq import VQ, Preprocessing

IMAGE_PLACE = vocabulary.TEXT_START - 1
"""Id of ``<image>``, which transformers replaces by an image's tokens: the last special, unused otherwise."""
NAMES = {
    "<pad>": vocabulary.PAD,
    "<eos>": vocabulary.EOS,
    "<break>": vocabulary.BREAK,
    "<eoss>": vocabulary.EOSS,
    **{f"<sentinel:{i}>": vocabulary.sentinel(i) for i in range(vocabulary.NUM_SENTINELS)},
    "<image>": IMAGE_PLACE,
}
"""Specials by name."""
FILTERS = {"linear": 2, "bicubic": 3, "lanczos": 1, "hamming": 2}
"""Pillow's numbers of ``Preprocessing.resize``. The torchvision that transformers asks knows no Hamming; the
triangle is as wide."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokenizers:
    """Those of the corpus that the model was trained on."""

    text: TextTokenizer
    image: VQ
    side: int
    """Pixels a side of the pictures that became tokens."""

    @property
    def tokens_an_image(self) -> int:
        return int((self.side // self.image.config.downsample) ** 2)


def files(tokenizers: Tokenizers, live: Live, *, context: int) -> dict[str, dict[str, Any]]:
    """By name: what AutoTokenizer and AutoProcessor read."""
    return {
        "tokenizer.json": text_tokenizer(tokenizers.text, live),
        "tokenizer_config.json": {**TOKENIZER, "model_max_length": context},
        "preprocessor_config.json": picture_processor(tokenizers.image.config.preprocessing, tokenizers.side),
        "processor_config.json": {**PROCESSOR, "image_seq_length": tokenizers.tokens_an_image},
    }


def image_name(code: int) -> str:
    """Chameleon's name of a code: its digits as letters.

    >>> image_name(1024)
    'IMGIMGBACEZ'
    """
    return f"IMGIMG{''.join(chr(ord('A') + int(digit)) for digit in str(code))}Z"


TOKENIZER = {
    "tokenizer_class": "PreTrainedTokenizerFast",
    "processor_class": "ChameleonProcessor",
    "bos_token": "<eos>",
    "eos_token": "<eos>",
    "pad_token": "<pad>",
    # Put behind every prompt by vLLM, and by transformers unless told return_for_text_completion.
    "sep_token": "<sentinel:0>",
    "extra_special_tokens": {"image_token": "<image>", "boi_token": "<break>", "eoi_token": "<eos>"},
    "clean_up_tokenization_spaces": False,
}
PROCESSOR = {"processor_class": "ChameleonProcessor", "image_token": "<image>"}


def text_tokenizer(text: TextTokenizer, live: Live) -> dict[str, Any]:
    """``tokenizer.json``: entries moved to their ids, specials by name, ``<eos>`` in front.

    Its NFC does not part more than 30 combining marks in a row, as ours does; and it reads ``<eos>`` in a
    text as the special, unless told split_special_tokens. ValueError for an entry with an image id's name.
    """
    told: dict[str, Any] = json.loads(text.to_json())
    entries = {word: entry + vocabulary.TEXT_START for word, entry in told["model"]["vocab"].items()}
    codes = {image_name(code): code + vocabulary.IMAGE_START for code in range(live.num_codes)}
    if taken := codes.keys() & entries.keys():
        raise ValueError(
            f"the text tokenizer has an entry {min(taken)}, which is Chameleon's name of an image id; fit it "
            "on other texts, or export with --layout pardalis"
        )
    told["model"]["vocab"] = {**codes, **entries, **NAMES}
    told["added_tokens"] = [{**SPECIAL, "id": number, "content": name} for name, number in NAMES.items()]
    told["normalizer"] = {
        "type": "Sequence",
        "normalizers": [{"type": "NFC"}, {"type": "Prepend", "prepend": " "}],
    }
    told["post_processor"] = OPENING
    told["decoder"] = {
        "type": "Sequence",
        "decoders": [told["decoder"], {"type": "Strip", "content": " ", "start": 1, "stop": 0}],
    }
    return told


SPECIAL = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
_EOS = {"SpecialToken": {"id": "<eos>", "type_id": 0}}
_A, _B = ({"Sequence": {"id": name, "type_id": 0}} for name in "AB")
OPENING = {
    "type": "TemplateProcessing",
    "single": [_EOS, _A],
    "pair": [_EOS, _A, _B],
    "special_tokens": {"<eos>": {"id": "<eos>", "ids": [vocabulary.EOS], "tokens": ["<eos>"]}},
}


def picture_processor(preprocessing: Preprocessing, side: int) -> dict[str, Any]:
    """``preprocessor_config.json``: the short side to ``side``, the centre cut, -1 of 0 and 1 of 255."""
    return {
        "image_processor_type": "ChameleonImageProcessor",
        "processor_class": "ChameleonProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"shortest_edge": side},
        "resample": FILTERS[preprocessing.resize],
        "do_center_crop": True,
        "crop_size": {"height": side, "width": side},
        "do_rescale": True,
        "rescale_factor": 2 / 255,
        "do_normalize": True,
        "image_mean": [1.0, 1.0, 1.0],
        "image_std": [1.0, 1.0, 1.0],
    }
