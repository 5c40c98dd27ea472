"""Trunk and loss as one module, since those that deal a model to ranks watch one forward pass.

Shapes: B rows, T tokens, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from trainer import attention
from trainer.model import Transformer, packed_inputs


class Objective(nn.Module):
    """The CM3 objective of a model: what is cut was cut by the stream, what is left is to predict."""

    def __init__(self, model: Transformer, *, compiled: bool = False, recomputes: bool = False) -> None:
        """``compiled``: each block is one graph. ``recomputes``: see :attr:`Transformer.recomputes`."""
        super().__init__()
        self.model = model
        self.compiled = compiled
        model.recomputes = recomputes
        if compiled:
            for block in model.blocks:
                block.compile()

    def forward(
        self, ids_BT: Tensor, documents_BT: Tensor, positions_BT: Tensor, share_BT: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The sum of share x loss over the batch, and the nats of each target [B, T - 1]."""
        hidden_BTD = hidden(self.model, ids_BT, documents_BT, positions_BT, compiled=self.compiled)
        if not torch.is_grad_enabled():
            nll_BT = self.model.nll(hidden_BTD, ids_BT[:, 1:], share_BT != 0)
            return (share_BT * nll_BT).sum(), nll_BT
        return self.model.loss(hidden_BTD, ids_BT[:, 1:], share_BT)


def hidden(
    model: Transformer,
    ids_BT: Tensor,
    documents_BT: Tensor,
    positions_BT: Tensor,
    *,
    compiled: bool = False,
) -> Tensor:
    """[B, T - 1, D]: of all tokens but the last, by the kernel that the device has."""
    kernel = attention.kernel(ids_BT.device, compiled=compiled, head_width=model.section.head_width)
    inputs = packed_inputs(ids_BT[:, :-1], documents_BT[:, :-1], positions_BT[:, :-1], kernel)
    hidden_BTD: Tensor = model(inputs)
    return hidden_BTD
