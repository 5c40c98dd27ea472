"""nanoGPT's architecture written plainly in PyTorch, and OPT of transformers, at a shape that is handed in.

What ``bench_train`` runs in turns with our own, as programs of their own; nothing of ours is imported. Both
see plain rows: every token counts, and a row is one document to them.

Shapes: B rows, T tokens, D width, H heads, V ids.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

Loss = Callable[[Tensor], Tensor]


class Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x_BTD: Tensor) -> Tensor:
        rows, tokens, width = x_BTD.shape
        q, k, v = (
            one.view(rows, tokens, self.heads, -1).transpose(1, 2)
            for one in self.qkv(self.first(x_BTD)).split(width, dim=2)
        )
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x_BTD = x_BTD + self.out(mixed.transpose(1, 2).reshape(rows, tokens, width))
        return x_BTD + self.down(functional.gelu(self.up(self.second(x_BTD))))


class Gpt(nn.Module):
    def __init__(self, *, layers: int, width: int, heads: int, context: int, vocabulary: int) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width)
        self.positions = nn.Embedding(context, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.last = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary, bias=False)
        self.head.weight = self.tokens.weight

    def forward(self, ids_BT: Tensor) -> Tensor:
        x_BTD = self.tokens(ids_BT[:, :-1]) + self.positions.weight[: ids_BT.shape[1] - 1]
        for block in self.blocks:
            x_BTD = block(x_BTD)
        logits_BTV = self.head(self.last(x_BTD))
        return functional.cross_entropy(logits_BTV.flatten(0, 1), ids_BT[:, 1:].flatten())


def gpt(shape: dict[str, int]) -> tuple[nn.Module, Loss]:
    model = Gpt(**shape)
    return model, model


def opt(shape: dict[str, int]) -> tuple[nn.Module, Loss]:
    from transformers import OPTConfig, OPTForCausalLM  # noqa: PLC0415  # a venv of its own has it

    config = OPTConfig(
        vocab_size=shape["vocabulary"],
        hidden_size=shape["width"],
        word_embed_proj_dim=shape["width"],
        ffn_dim=4 * shape["width"],
        num_hidden_layers=shape["layers"],
        num_attention_heads=shape["heads"],
        max_position_embeddings=shape["context"],
        dropout=0.0,
    )
    model = OPTForCausalLM._from_config(config, attn_implementation="sdpa")  # noqa: SLF001  # as its docs say
    return model, lambda ids_BT: model(input_ids=ids_BT[:, :-1], labels=ids_BT[:, :-1]).loss


def trained(model: nn.Module, loss_of: Loss, ids_SBT: Tensor, *, dtype: str) -> list[dict[str, float]]:
    """A step of AdamW for each batch: seconds by the wall and of the CPU, and the loss."""
    model.train()
    adam = torch.optim.AdamW(model.parameters(), lr=6e-4, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
    steps = []
    for ids_BT in ids_SBT:
        began, cpu = time.perf_counter(), time.process_time()
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bfloat16"):
            loss = loss_of(ids_BT)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        adam.step()
        adam.zero_grad()
        steps.append(
            {"wall": time.perf_counter() - began, "cpu": time.process_time() - cpu, "loss": loss.item()}
        )
    return steps


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("name", choices=["gpt", "opt"])
    parser.add_argument("--ids", required=True, help="a tensor [steps, B, T + 1] of ids, saved by torch")
    parser.add_argument("--shape", required=True, type=json.loads)
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    model, loss_of = {"gpt": gpt, "opt": opt}[given.name](given.shape)
    if given.compile:
        loss_of = torch.compile(loss_of)
    steps = trained(model, loss_of, torch.load(given.ids), dtype=given.dtype)
    print(json.dumps(steps))  # noqa: T201  # its answer


if __name__ == "__main__":
    main()
