"""Linear layers in the layout that a CPU multiplies fastest, for a model that writes token by token.

The surprising rule: a few rows are multiplied as fast as the weights are read, and oneDNN reads at the
machine's rate what it has laid out itself. With 16 rows and a weight of [2304, 768], two cores took 0.34 ms
so and 0.89 ms by ``functional.linear``.

Shapes: D width, V ids, ... any.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Self

import torch
from torch import Tensor, nn

from trainer.model import Transformer


class Blocked(nn.Module):
    """A product with a weight in oneDNN's blocked layout: as ``nn.Linear``, with the sum in another order."""

    def __init__(self, weight: Tensor, num_rows: int) -> None:
        super().__init__()
        self.weight = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), num_rows)  # noqa: SLF001  # what inductor calls

    def __deepcopy__(self, _memo: dict[int, object]) -> Self:
        return self  # its weight, an opaque tensor, has no copy

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = torch.ops.mkldnn._linear_pointwise(x, self.weight, None, "none", [], "")  # noqa: SLF001
        return found


def blocked(model: Transformer, num_rows: int) -> Transformer:
    """The model for batches of so many rows, its linear layers as :class:`Blocked`: as much memory again.

    Itself where nothing is to be gained: on a GPU, at any precision but float32, without oneDNN.
    """
    linears = [module for module in model.modules() if isinstance(module, nn.Linear)]
    if not all(gains(linear.weight) for linear in linears):
        return model
    # All else is the model's own.
    kept: dict[int, object] = {id(one): one for one in (*model.parameters(), *model.buffers())}
    return copy.deepcopy(model, kept | {id(one): Blocked(one.weight, num_rows) for one in linears})


def image_head(model: Transformer, num_rows: int) -> Callable[[Tensor], Tensor]:
    """:meth:`Transformer.image_logits` [..., V] of states [..., D], for so many of them."""
    weight = model.tokens.weight[model.live.text_stop :]
    return Blocked(weight, num_rows) if gains(weight) else model.image_logits


def gains(weight: Tensor) -> bool:
    kind = type(weight.detach())  # a quantized weight, or one that is dealt to ranks, is of a kind of its own
    return (
        torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        and kind is Tensor
        and weight.device.type == "cpu"
        and weight.dtype == torch.float32
    )
