"""Any model that open_clip can build, as an encoder: CM3Leon's choice where weights can be had.

Both sides are normalised and share a space, so that no alignment is fitted.

Legend: B images or texts, H and W pixels, C channels, F image features, D text features.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as v2

from tokenizer_service import features


def _sha256(facts: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _height_width(preprocess: Mapping[str, Any]) -> tuple[int, int]:
    size = preprocess["size"]
    return (size, size) if isinstance(size, int) else (size[0], size[1])


@dataclass(frozen=True, slots=True)
class Towers:
    image: Any
    text: Any

    @classmethod
    def of(cls, module: nn.Module, *, compiled: bool) -> Towers:
        towers: tuple[Any, Any] = (module.encode_image, module.encode_text)
        return cls(*(torch.compile(tower) for tower in towers)) if compiled else cls(*towers)


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenClipEncoder:
    """Any model that open_clip can build, on one device. F = D, both sides normalised."""

    name: str
    fingerprint: str
    image_width: int
    text_width: int
    module: nn.Module
    towers: Towers
    tokenizer: Any
    preprocess: Mapping[str, Any]
    device: torch.device
    dtype: torch.dtype

    @classmethod
    def load(
        cls,
        architecture: str,
        pretrained: str | Path | None,
        *,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
        compiled: bool = False,
    ) -> OpenClipEncoder:
        """``architecture`` as open_clip names it, with a tag of its registry (downloads) or a checkpoint.

        ``local-dir:FOLDER`` holds its own weights: ``pretrained`` is then None. Weights are always required:
        open_clip alone would go on with random ones. ``dtype=torch.bfloat16`` and ``compiled``, which takes a
        minute once a worker, are meant for GPUs.
        """
        module = open_clip.create_model(
            architecture,
            None if pretrained is None else str(pretrained),
            require_pretrained=True,
            weights_only=True,
        )
        module.eval().requires_grad_(requires_grad=False)
        preprocess = dict(open_clip.get_model_preprocess_cfg(module))
        height, width = _height_width(preprocess)
        if preprocess["resize_mode"] == "longest" or (
            preprocess["resize_mode"] != "squash" and height != width
        ):
            raise ValueError(
                f"{architecture} wants {preprocess}; use a model of squares that crops or squashes"
            )
        tokenizer = open_clip.get_tokenizer(architecture)
        weights = features.state_sha256(module.state_dict())
        embedding = module.encode_text(tokenizer(["width"])).shape[1]
        facts = {"weights": weights, "preprocess": preprocess, "context": tokenizer.context_length}
        return cls(
            name=f"open_clip:{architecture}",
            fingerprint=_sha256(facts),
            image_width=embedding,
            text_width=embedding,
            module=module.to(device),
            towers=Towers.of(module, compiled=compiled),
            tokenizer=tokenizer,
            preprocess=preprocess,
            device=torch.device(device),
            dtype=dtype,
        )

    def image_features(self, images_BHWC: NDArray[np.uint8]) -> NDArray[np.float32]:
        if not len(images_BHWC):
            return np.zeros((0, self.image_width), np.float32)
        return self._encoded(self.towers.image, self._pixels(images_BHWC))

    def text_features(self, texts: Sequence[str]) -> NDArray[np.float32]:
        if not texts:
            return np.zeros((0, self.text_width), np.float32)
        return self._encoded(self.towers.text, self.tokenizer(list(texts)).to(self.device))

    def _encoded(self, tower: Any, batch: Tensor) -> NDArray[np.float32]:
        with (
            torch.inference_mode(),
            torch.autocast(self.device.type, dtype=self.dtype, enabled=self.dtype != torch.float32),
        ):
            vectors_BD = tower(batch)
        return functional.normalize(vectors_BD.float(), dim=1).cpu().numpy()

    def _pixels(self, images_BHWC: NDArray[np.uint8]) -> Tensor:
        """What open_clip's own transform does with one PIL image, on the device and for the whole batch."""
        pixels_BCHW: Tensor = torch.tensor(images_BHWC, device=self.device).permute(0, 3, 1, 2)
        height, width = _height_width(self.preprocess)
        # A list of one side resizes the shorter edge to it and keeps the aspect.
        target = [height, width] if self.preprocess["resize_mode"] == "squash" else [height]
        interpolation = InterpolationMode(self.preprocess["interpolation"])
        pixels_BCHW = v2.resize(pixels_BCHW, target, interpolation=interpolation, antialias=True)
        pixels_BCHW = v2.center_crop(pixels_BCHW, [height, width]).float() / 255.0
        mean, std = (torch.tensor(self.preprocess[key], device=self.device) for key in ("mean", "std"))
        return (pixels_BCHW - mean[:, None, None]) / std[:, None, None]
