"""Weights of fewer bytes for drawing: bfloat16, or int8 with one scale an output of each linear layer.

The surprising rule: a model that has the precision already is taken as it is, any other is copied at every
call; so who draws often makes the copy once.
"""

from __future__ import annotations

import copy
import importlib
from typing import Any, Literal

import torch
from torch import nn

from trainer.model import Transformer

Precision = Literal["float32", "bfloat16", "int8"]


def ready(model: Transformer, precision: Precision) -> Transformer:
    """The model at that precision; itself at ``float32``, whatever it is.

    ``int8`` is weight-only (``torchao``): each linear layer computes in the type of the other weights,
    float32 on a CPU and bfloat16 on a GPU. Embedding and head stay as they are. ``ValueError`` without the
    package.
    """
    match precision:
        case "float32":
            return model
        case "bfloat16":
            return model if model.tokens.weight.dtype == torch.bfloat16 else _halved(model)
        case "int8":
            return _quantized(model, _torchao())


def check_precision(precision: Precision) -> None:
    """``ValueError`` for one whose package is not there."""
    if precision == "int8":
        _torchao()


def _halved(model: Transformer) -> Transformer:
    return copy.deepcopy(model).to(torch.bfloat16)


def _quantized(model: Transformer, torchao: Any) -> Transformer:
    if all(isinstance(linear.weight, torchao.Int8Tensor) for linear in linears(model)):
        return model
    copied = copy.deepcopy(model) if model.tokens.weight.device.type == "cpu" else _halved(model)
    torchao.quantize_(copied.blocks, torchao.Int8WeightOnlyConfig(version=2, set_inductor_config=False))
    return copied


def _torchao() -> Any:
    # Not at the top: it is an optional package, and takes seconds to load.
    try:
        return importlib.import_module("torchao.quantization")
    except ModuleNotFoundError as error:
        raise ValueError(
            f"trainer.sampler.precision is int8, which needs torchao ({error}); run "
            "`pip install 'pardalis[int8]'`, or set 'bfloat16'"
        ) from error


def linears(model: Transformer) -> list[nn.Linear]:
    """Of the blocks."""
    return [module for module in model.blocks.modules() if isinstance(module, nn.Linear)]
