"""Write behind prompts token by token: keys and values are kept, never computed again.

The surprising rule: a prompt is kept once, however many rows go on from it. A new token looks at the shared
prompt, as one product for all its rows, and at what its own row has written, under one softmax. That is
exact: the samples of a prompt differ only in what stands behind it.

Shapes: B rows being written, T tokens, P tokens of a prompt, n rows of a prompt, S slots of a row's tokens, G
prompts of a kind (in caches: times heads), H heads, E head width, L layers, D width, W words of a caption.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from tokenizer_service import vocabulary
from trainer.attention import Mask, Runs
from trainer.blocked import blocked
from trainer.lookup import Captioned
from trainer.model import Inputs, Transformer, at_rest
from trainer.prefill import Read, numerics, read
from trainer.prompts import Ids

Engine = Literal["eager", "compile"]
COMPILED_MULTIPLE = 256
"""Prompts of a compiled decoder are padded to a multiple, so that few lengths are compiled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """Where the next token of each row is kept."""

    at_1: Tensor
    """Its number, as a tensor: a captured graph reads it at every replay."""
    stop: int
    """Slots below are looked at."""
    unseen_S: Tensor | None
    """Of these, slots that are not written yet; None: there are none."""


class Kind(nn.Module):
    """Prompts with equally many rows each, and about as long: G prompts, n rows of each, in this order.

    Keys and values are buffers, since a captured graph writes to them in place.
    """

    def __init__(self, prompts: Sequence[Read], *, rows_each: int, num_slots: int, multiple: int) -> None:
        super().__init__()
        lengths = [one.keys_LHPE.shape[2] for one in prompts]
        longest = -(-max(lengths) // multiple) * multiple
        self.num_heads = prompts[0].keys_LHPE.shape[1]
        self.rows_each = rows_each
        self.keys_LGPE: Tensor
        self.values_LGPE: Tensor
        self.own_keys_LBSE: Tensor
        self.own_values_LBSE: Tensor
        self.unseen_G1P: Tensor | None
        keys_LGPE = torch.cat([_padded(one.keys_LHPE, longest) for one in prompts], dim=1)
        own = (len(keys_LGPE), keys_LGPE.shape[1] * rows_each, num_slots, keys_LGPE.shape[3])
        self.register_buffer("keys_LGPE", keys_LGPE)
        self.register_buffer(
            "values_LGPE", torch.cat([_padded(one.values_LHPE, longest) for one in prompts], 1)
        )
        self.register_buffer("own_keys_LBSE", keys_LGPE.new_zeros(own))
        self.register_buffer("own_values_LBSE", keys_LGPE.new_zeros(own))
        self.register_buffer("unseen_G1P", _unseen(lengths, longest, self.num_heads, keys_LGPE.device))

    @property
    def num_rows(self) -> int:
        return self.keys_LGPE.shape[1] // self.num_heads * self.rows_each

    def attend(self, layer: int, q_BHE: Tensor, k_BHE: Tensor, v_BHE: Tensor, slot: Slot) -> Tensor:
        """Mixed values [B, H, E]; the leading dimension of caches is prompts x heads (x rows)."""
        q_GnE = self._by_head(q_BHE * q_BHE.shape[2] ** -0.5)
        k_B1E, v_B1E = self._by_row(k_BHE), self._by_row(v_BHE)
        own_k_BSE, own_v_BSE = self.own_keys_LBSE[layer], self.own_values_LBSE[layer]
        own_k_BSE.index_copy_(1, slot.at_1, k_B1E)
        own_v_BSE.index_copy_(1, slot.at_1, v_B1E)
        share_GnP, share_B1S = self._shares(layer, q_GnE, own_k_BSE, slot)
        mixed_GnE = torch.bmm(share_GnP, self.values_LGPE[layer])
        mixed_GnE += _each(share_B1S, own_v_BSE[:, : slot.stop]).view_as(mixed_GnE)
        mixed_GHnE = mixed_GnE.view(-1, self.num_heads, *mixed_GnE.shape[1:])
        return mixed_GHnE.transpose(1, 2).reshape(q_BHE.shape)

    def _shares(self, layer: int, q_GnE: Tensor, own_k_BSE: Tensor, slot: Slot) -> tuple[Tensor, Tensor]:
        """One softmax over the prompt and over what the row has written."""
        own_B1S = _each(q_GnE.reshape(-1, 1, q_GnE.shape[2]), own_k_BSE[:, : slot.stop].transpose(1, 2))
        shared_GnP = torch.bmm(q_GnE, self.keys_LGPE[layer].transpose(1, 2))
        if self.unseen_G1P is not None:
            shared_GnP = shared_GnP.masked_fill_(self.unseen_G1P, -torch.inf)
        if slot.unseen_S is not None:
            own_B1S = own_B1S.masked_fill_(slot.unseen_S, -torch.inf)
        own_GnS = own_B1S.view(*shared_GnP.shape[:2], -1)
        share = torch.cat((shared_GnP, own_GnS), dim=-1).softmax(dim=-1, dtype=torch.float32).to(q_GnE.dtype)
        share_GnP, share_GnS = torch.split(share, [shared_GnP.shape[2], own_GnS.shape[2]], dim=-1)
        return share_GnP, share_GnS.flatten(0, 1)[:, None]

    def _by_head(self, x_BHE: Tensor) -> Tensor:
        """[G H, n, E]"""
        x_GnHE = x_BHE.view(-1, self.rows_each, *x_BHE.shape[1:])
        return x_GnHE.transpose(1, 2).reshape(-1, self.rows_each, x_BHE.shape[2])

    def _by_row(self, x_BHE: Tensor) -> Tensor:
        """[G H n, 1, E]"""
        return self._by_head(x_BHE).reshape(-1, 1, x_BHE.shape[2])


def _each(x_B1K: Tensor, y_BKM: Tensor) -> Tensor:
    """Vector times matrix [B, 1, M], a matrix a row."""
    if not y_BKM.is_cuda:
        return torch.bmm(x_B1K, y_BKM)
    # A captured step makes one kernel of this: 8 images of 1,024 tokens from a model of 125M in bfloat16 took
    # 4.5 and not 6.1 s of an H200.
    return (x_B1K.transpose(1, 2).float() * y_BKM).sum(dim=1, keepdim=True).to(y_BKM.dtype)


def _padded(x_LHPE: Tensor, length: int) -> Tensor:
    return functional.pad(x_LHPE, (0, 0, 0, length - x_LHPE.shape[2]))


def _unseen(lengths: Sequence[int], longest: int, num_heads: int, device: torch.device) -> Tensor | None:
    """[G H, 1, P]: padding."""
    if min(lengths) == longest:
        return None
    slots_P = torch.arange(longest, device=device)
    unseen_GP = slots_P >= torch.tensor(lengths, device=device)[:, None]
    return unseen_GP.repeat_interleave(num_heads, dim=0)[:, None]


class Decoder(nn.Module):
    """Rows being written, each behind its prompt.

    Memory grows with rows x new tokens and with distinct prompts; more than fits is for the caller to divide.
    """

    def __init__(self, model: Transformer, kinds: Sequence[Kind], row_at_B: Tensor, prompt: Behind) -> None:
        """``row_at_B``: the row at each place of the kinds; ``prompt``: what it stands behind."""
        super().__init__()
        self.model = model
        self.kinds = nn.ModuleList(kinds)
        self.prompt = prompt
        self.row_at_B: Tensor
        self.place_of_B: Tensor
        self.register_buffer("row_at_B", row_at_B)
        self.register_buffer("place_of_B", row_at_B.argsort())

    @classmethod
    def start(cls, model: Transformer, prompts: Sequence[Ids], *, num_new: int, engine: Engine) -> Decoder:
        """Read the prompts, one a row, equal ones once; room is taken for ``num_new`` more tokens a row.

        Raises ``ValueError`` if that is more than the model's context.
        """
        _check_room(model, prompts, num_new)
        distinct = list(dict.fromkeys(prompts))
        found = dict(zip(distinct, read(model, distinct), strict=True))
        groups = _alike(prompts)
        kinds = [
            Kind(
                [found[prompt] for prompt in group],
                rows_each=len(next(iter(group.values()))),
                num_slots=num_new,
                multiple=COMPILED_MULTIPLE if engine == "compile" else 1,
            )
            for group in groups
        ]
        rows = [row for group in groups for rows in group.values() for row in rows]
        device = model.tokens.weight.device
        behind = Behind.of([found[prompts[row]] for row in rows])
        # A graph is made of the model as it is.
        writing = blocked(model, len(rows)) if engine == "eager" else model
        return cls(writing, kinds, torch.tensor(rows, device=device), behind)

    @property
    def last_BD(self) -> Tensor:
        """The states behind the prompts."""
        return self.prompt.last_BD[self.place_of_B]

    def forward(self, ids_B: Tensor, slot: Slot) -> Tensor:
        """Append one token to each row; the states [B, D] behind them."""
        ids_B1 = ids_B[self.row_at_B, None]
        inputs = Inputs(
            ids_BT=ids_B1,
            positions_BT=self.prompt.length_B1 + slot.at_1,
            seen=Runs((1,) * len(ids_B)),
            captioned=self.prompt.at(ids_B1, slot.at_1),
        )
        with numerics(self.model), at_rest(self.model):
            kinds = cast("Sequence[Kind]", self.kinds)
            hidden_BD: Tensor = self.model(inputs, _Slotted(kinds, slot))[:, -1]
        return hidden_BD[self.place_of_B]


@dataclass(frozen=True, slots=True, kw_only=True)
class Behind:
    """What rows need to know of their prompts, beside keys and values."""

    length_B1: Tensor
    last_BD: Tensor
    captioned: Captioned
    """Of an image token that would come next, all [B, 1]."""

    @classmethod
    def of(cls, prompts: Sequence[Read]) -> Behind:
        device = prompts[0].last_D.device
        lengths = [one.keys_LHPE.shape[2] for one in prompts]
        return cls(
            length_B1=torch.tensor(lengths, device=device)[:, None],
            last_BD=torch.stack([one.last_D for one in prompts]),
            captioned=Captioned(
                place_BT=torch.stack([one.captioned.place_BT for one in prompts]),
                words_BTW=torch.stack([one.captioned.words_BTW for one in prompts]),
                real_BTW=torch.stack([one.captioned.real_BTW for one in prompts]),
            ),
        )

    def at(self, ids_B1: Tensor, step_1: Tensor) -> Captioned:
        """Of the tokens of a step: image tokens follow image tokens here, and text follows text."""
        image_B1 = ids_B1 >= vocabulary.IMAGE_START
        return Captioned(
            place_BT=torch.where(image_B1, self.captioned.place_BT + step_1, 0),
            words_BTW=self.captioned.words_BTW,
            real_BTW=self.captioned.real_BTW & image_B1[..., None],
        )


@dataclass(frozen=True, slots=True)
class _Slotted:
    """Each kind answers for its rows."""

    kinds: Sequence[Kind]
    slot: Slot

    def attend(self, layer: int, q_BHTE: Tensor, k_BHTE: Tensor, v_BHTE: Tensor, _seen: Mask) -> Tensor:
        sizes = [kind.num_rows for kind in self.kinds]
        new = (torch.split(x_BHTE[:, :, 0], sizes) for x_BHTE in (q_BHTE, k_BHTE, v_BHTE))
        parts = zip(self.kinds, *new, strict=True)
        return torch.cat([kind.attend(layer, q, k, v, self.slot) for kind, q, k, v in parts])[:, :, None]


def _alike(prompts: Sequence[Ids]) -> list[dict[Ids, list[int]]]:
    """Distinct prompts with their rows, in groups of equally many rows and of lengths within a factor of two:
    a group is padded to its longest.
    """
    rows: dict[Ids, list[int]] = defaultdict(list)
    for row, prompt in enumerate(prompts):
        rows[prompt].append(row)
    groups: dict[tuple[int, int], dict[Ids, list[int]]] = defaultdict(dict)
    for prompt, mine in rows.items():
        groups[len(mine), len(prompt).bit_length()][prompt] = mine
    return list(groups.values())


def _check_room(model: Transformer, prompts: Sequence[Ids], num_new: int) -> None:
    longest = max(map(len, prompts))
    if longest + num_new > model.section.context:
        raise ValueError(
            f"a prompt of {longest} tokens and {num_new} new ones exceed the context of "
            f"{model.section.context}; give fewer neighbors or a shorter text, or, where words are written, "
            "a lower trainer.sampler.max_text_tokens"
        )
