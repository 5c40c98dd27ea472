"""What a run will cost: parameters, memory a rank, arithmetic a token, expected speed. Nothing is allocated.

Shapes: L layers, D width, F width of the feed-forward, T context, V embedding rows.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch

from tokenizer_service.vocabulary import Live
from trainer.cross_entropy import CHUNK_LOGITS
from trainer.meter import DEVICES
from trainer.model import ModelSection, Transformer

EXPECTED_MFU = 0.4
"""Chameleon's 7B trained at 43 % (arXiv 2405.09818), TinyLlama at 52 %: what a tuned run reaches."""
BYTES_A_WEIGHT = {"weights": 4, "gradients": 4, "moments": 8}
"""float32: weights stay so under autocast, AdamW has two moments."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    parameters: int
    """Of all weights; the head shares the embedding's."""
    flops_per_token: float
    """Forward and backward."""
    bytes_per_rank: dict[str, int]
    """By what they hold."""
    tokens_per_s: dict[str, float]
    """By device, for all ranks, at ``EXPECTED_MFU``."""

    def fits(self, device: str) -> str:
        """What to do where a rank needs more than nine tenths of a device's memory."""
        needed, held = sum(self.bytes_per_rank.values()), DEVICES[device][1] * 10**9
        if needed < 0.9 * held:
            return ""
        return f"  does not fit {held // 10**9} GB: more ranks, recompute, or fsdp"

    def json(self) -> dict[str, Any]:
        return asdict(self) | {"mfu": EXPECTED_MFU}

    def told(self, section: ModelSection, *, ranks: int) -> str:
        """For a terminal."""
        rows = [
            ("variant", f"{section.variant}, {section.num_layers} layers of width {section.width}"),
            ("parameters", f"{self.parameters / 1e6:,.1f} M"),
            ("FLOPs a token", f"{self.flops_per_token:.3g} at {section.context:,} tokens of context"),
            ("memory a rank", f"{sum(self.bytes_per_rank.values()) / 2**30:,.1f} GiB on {ranks} ranks"),
            *((f"  {name}", f"{size / 2**30:,.2f} GiB") for name, size in self.bytes_per_rank.items()),
            ("tokens/s", f"at {EXPECTED_MFU:.0%} MFU, all ranks together"),
            *((f"  {name}", f"{rate:,.0f}{self.fits(name)}") for name, rate in self.tokens_per_s.items()),
        ]
        return "\n".join(f"{name:<24}{value}" for name, value in rows)


def meta(section: ModelSection, live: Live) -> Transformer:
    """The model without memory."""
    with torch.device("meta"):
        return Transformer(section, live)


def num_parameters(section: ModelSection, live: Live) -> int:
    return sum(weight.numel() for weight in meta(section, live).parameters())


def flops_per_token(section: ModelSection, live: Live, *, longest: float | None = None) -> float:
    """6 for each weight that multiplies, and attention: 12 L D a token looked at, of which a causal document
    of ``longest`` tokens (default: the context) has half (nanoGPT's and PaLM's count, arXiv 2204.02311).

    Of a head ``by_modality`` the rows of images count, for which nearly all tokens compete.
    """
    matrices = sum(
        weight.numel()
        for name, weight in meta(section, live).named_parameters()
        if weight.dim() == 2 and name.split(".")[-2] not in {"tokens", "positions", "places", "rows"}
    )
    competing = live.rows if section.head == "flat" else live.num_codes
    seen = (section.context if longest is None else longest) / 2
    return 6.0 * (matrices + competing * section.width) + 12.0 * section.num_layers * section.width * seen


def of(
    section: ModelSection, live: Live, *, ranks: int, rows: int, sharded: bool, recomputes: bool
) -> Budget:
    """For a step of ``rows`` rows of the context, dealt to ``ranks``."""
    count = num_parameters(section, live)
    rank_tokens = -(-rows // ranks) * section.context
    share = ranks if sharded else 1
    held = {name: count * size // share for name, size in BYTES_A_WEIGHT.items()}
    if not sharded:
        held["weights in bfloat16"] = 2 * count  # what autocast keeps until the step is done
    held["activations"] = rank_tokens * _activation_bytes(section, recomputes=recomputes)
    held["logits"] = min(CHUNK_LOGITS, rank_tokens * live.rows) * (4 + 2)
    held["gradient of the head"] = live.rows * section.width * 4
    if sharded:  # the largest group is whole for a moment, with its gradients, in bfloat16
        block = sum(weight.numel() for weight in meta(section, live).blocks[0].parameters())
        held["gathered"] = 2 * 2 * max(block, count - block * section.num_layers)
    flops = flops_per_token(section, live)
    return Budget(
        parameters=count,
        flops_per_token=flops,
        bytes_per_rank=held,
        tokens_per_s={name: EXPECTED_MFU * peak * ranks / flops for name, (peak, _) in DEVICES.items()},
    )


def _activation_bytes(section: ModelSection, *, recomputes: bool) -> int:
    """A token, of all layers: the residual in float32; and what a block keeps for its backward pass in
    bfloat16: input of both products in front, q, k, v, what attention gave, F before and behind the
    activation. Recomputed: of one block.
    """
    residual = 4 * section.width
    inner = (3 if section.variant == "modern" else 2) * section.feed_forward
    kept = 2 * (2 * section.width + 3 * section.width + section.width + inner) + 2 * residual
    return section.num_layers * residual + (1 if recomputes else section.num_layers) * kept
