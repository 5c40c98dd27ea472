"""An aesthetic score: a published head on the encoder's image features, read from a file given by its path.

Two forms are known, both LAION's: one linear layer (``weight``, ``bias``), and several one after the other
with nothing between them but dropout (``layers.0.weight`` …), as in improved-aesthetic-predictor. Both take
features of unit length, of the one CLIP that they were fitted on; of another model they say nothing.

Legend: B pictures, F image features.
"""

from __future__ import annotations

import hashlib
import itertools
import pickle
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError

from retrieval.encoders import normalised

Layer = tuple[NDArray[np.float32], NDArray[np.float32]]
"""Weight [out, in] and bias [out]."""
UNREADABLE = (
    *(SafetensorError, pickle.UnpicklingError, EOFError, RuntimeError, ValueError, LookupError, TypeError),
    *(AttributeError, AssertionError, ArithmeticError, ImportError, MemoryError, struct.error),
)
"""What reading bytes that are no weights ends in: a pickle's reader trusts that its opcodes make sense."""


@dataclass(frozen=True, slots=True)
class Head:
    layers: tuple[Layer, ...]

    @classmethod
    def load(cls, path: Path) -> Head:
        """From ``.safetensors``, or from a state dict that torch saved; of a pickle, tensors alone are read.

        Raises ValueError where the file is no such head.
        """
        state = states(path)
        names = sorted((name for name in state if name.endswith("weight")), key=_place)
        layers = tuple(_layer(state, name, path) for name in names)
        widths = [weight.shape for weight, _ in layers]
        chained = all(after[1] == before[0] for before, after in itertools.pairwise(widths))
        if not layers or widths[-1][0] != 1 or not chained:
            raise ValueError(
                f"{path} holds {sorted(state)}, not layers that end in one score; give LAION's head"
            )
        return cls(layers)

    @property
    def width(self) -> int:
        """F that it takes."""
        return int(self.layers[0][0].shape[1])

    def scores(self, features_BF: NDArray[np.float32]) -> NDArray[np.float32]:
        """[B], on the head's own scale: LAION's go from 1 to 10."""
        if features_BF.shape[1] != self.width:
            raise ValueError(misfit(self.width, features_BF.shape[1]))
        found = normalised(features_BF)
        for weight, bias in self.layers:
            found = found @ weight.T + bias
        return found[:, 0]


def misfit(asked: int, got: int) -> str:
    """Why a head cannot score an encoder's features."""
    return (
        f"the aesthetic head takes {asked} features and the encoder gives {got}; set retrieval.encoder to "
        "the model that the head was fitted on (ViT-L-14 has 768, ViT-B-32 512), or give its head"
    )


def states(path: Path) -> Mapping[str, Any]:
    """The tensors of a file, by name."""
    import torch  # noqa: PLC0415  # the scorers are listed without their libraries
    from safetensors.torch import load_file  # noqa: PLC0415

    found: Any
    try:
        if path.suffix == ".safetensors":
            found = load_file(path)
        else:
            found = torch.load(path, map_location="cpu", weights_only=True)
    except UNREADABLE as error:
        why = f"{type(error).__name__}: {error}"
        raise ValueError(f"{path} holds no weights that can be read safely: {why}") from None
    if not isinstance(found, dict) or not all(isinstance(one, torch.Tensor) for one in found.values()):
        raise ValueError(f"{path} holds a {type(found).__name__}, not a state dict of tensors; save that")
    return found


def identity(path: Path) -> str:
    """sha256 of the file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _place(name: str) -> int:
    """A layer's place among the others: ``layers.2.weight`` comes before ``layers.10.weight``."""
    found = re.search(r"(\d+)\.weight$", name)
    return int(found[1]) if found else 0


def _layer(state: Mapping[str, Any], name: str, path: Path) -> Layer:
    weight, bias = state[name], state.get(name.removesuffix("weight") + "bias")
    if bias is None or weight.ndim != 2 or bias.shape != weight.shape[:1]:
        raise ValueError(f"{path}: {name} is no linear layer with a bias; give LAION's head")
    return weight.float().numpy(), bias.float().numpy()
