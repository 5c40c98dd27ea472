"""Use the corpus's tokenizers by hand: encode, decode."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

from infra.corpus import Corpus, Version
from infra.options import ReadOptions, answer, png
from pipeline import refs
from pipeline.encoding import square
from pipeline.tokens import BPE, VQ
from tokenizer_service import coding, text, vq
from tokenizer_service.coding import NUMERICS, Numerics


def pinned(corpus: Corpus, version: Version, step: str, file: str) -> bytes:
    """A file of a fitted model, checked."""
    return refs.of(corpus.store, corpus.artifact(version, step).only, file).read()


def load_vq(corpus: Corpus, version: Version) -> vq.VQ:
    return vq.load(pinned(corpus, version, "vq", VQ))


def load_bpe(corpus: Corpus, version: Version) -> text.TextTokenizer:
    return text.from_json(pinned(corpus, version, "bpe", BPE).decode())


def image_side(corpus: Corpus, version: Version) -> int:
    """Pixels a side of what the image tokenizer was fitted on, whatever the configuration says now."""
    return int(corpus.artifact(version, "vq").settings["side"])


def numerics_of(corpus: Corpus, version: Version) -> Numerics:
    """How the version's codes were computed; the defaults where none were yet."""
    if "tokenize" not in version.artifacts:
        return NUMERICS
    return Numerics.model_validate(corpus.artifact(version, "tokenize").settings["encode"])


def encode(
    *, image: Path | None = None, words: str | None = None, options: ReadOptions | None = None
) -> None:
    """Print the codes of an image, or the BPE entries of a text, as JSON.

    Example: pardalis tokenizer encode --image apple.png > apple.json

    Parameters
    ----------
    image
        JPEG, PNG or WebP.
    words
        Text.
    """
    options = options or ReadOptions()
    corpus = options.open()
    version = corpus.newest()
    found: dict[str, list[int]] = {}
    if image is not None:
        model = load_vq(corpus, version)
        pixels = square(image.read_bytes(), image_side(corpus, version), model.config.preprocessing)
        found["codes"] = coding.encode_images(model, pixels[None], numerics=numerics_of(corpus, version))[
            0
        ].tolist()
    if words is not None:
        found["entries"] = load_bpe(corpus, version).encode([words])[0].tolist()
    if not found:
        raise ValueError("nothing to encode; give --image, --words, or both")
    answer(found, json.dumps(found), json=options.json)


def decode(codes: Path, *, out: Path, options: ReadOptions | None = None) -> None:
    """Draw the image that codes stand for.

    Example: pardalis tokenizer decode apple.json --out apple-again.png

    Parameters
    ----------
    codes
        JSON file with a list ``codes``, as ``encode`` prints it.
    out
        PNG file.
    """
    values, out = codes_of(codes), png(out)
    options = options or ReadOptions()
    corpus = options.open()
    (picture,) = coding.decode_codes(load_vq(corpus, corpus.newest()), np.asarray([values]))
    Image.fromarray(picture).save(out)
    answer({"out": str(out)}, str(out), json=options.json)


def codes_of(path: Path) -> list[int]:
    """The codes in a file that a person may have written."""
    try:
        values = json.loads(path.read_text())["codes"]
    except (OSError, KeyError, TypeError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is no JSON with a list 'codes': {error!r}; make one with encode") from None
    if not isinstance(values, list) or not values or {type(value) for value in values} != {int}:
        raise ValueError(f"{path}: 'codes' must be a list of whole numbers, as encode prints them")
    return values
