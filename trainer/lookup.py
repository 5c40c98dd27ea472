"""A memory that is looked up, not computed: what the words of a caption say about one place of its image.

A transformer binds words to pictures in weights that every picture shares, which takes many epochs. A table
with a row for each pair of (word, place), as conditional memory has one for each n-gram (arXiv 2601.07372),
binds them in a few: a row is touched by its own words alone. The surprising rule: a caption is a bag here,
its rows are summed; order, context and what was drawn so far remain the transformer's part.

Shapes: B rows, S tokens of whole documents, T tokens asked for, W words of a caption, M the width of the
memory, D the width of the model.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tokenizer_service import vocabulary

WIDTH = 64
"""Numbers of a row: a quarter of the demo's width, so that the table costs less than the blocks to update."""
WORDS = 16
"""Longest caption that is looked up whole; of a longer one the last words count."""
_ODD = 2_654_435_761
_PRIME = 4_294_967_291


@dataclass(frozen=True, slots=True, kw_only=True)
class Captioned:
    """Where tokens stand: what a memory is asked with."""

    place_BT: Tensor
    """Consecutive image tokens that end with each."""
    words_BTW: Tensor
    """Ids of its caption, last first."""
    real_BTW: Tensor
    """Which of them are real: none where no image token comes next."""


class Lookup(nn.Module):
    """A table of ``num_rows`` rows, shared by all (word, place) that hash to the same."""

    def __init__(self, num_rows: int, width: int) -> None:
        super().__init__()
        self.rows = nn.Embedding(num_rows, WIDTH)
        self.out = nn.Linear(WIDTH, width, bias=False)

    def forward(self, of: Captioned) -> Tensor:
        """What to add to each token [B, T, D]; 0 where no image token comes next.

        Divided by the root of the number of words, so that short and long captions speak equally loud.
        """
        place_BT1, real_BTW = of.place_BT[..., None], of.real_BTW
        keys_BTW = (of.words_BTW * vocabulary.SIZE + place_BT1) * _ODD % _PRIME % self.rows.num_embeddings
        scale_BT1 = real_BTW.sum(dim=-1, keepdim=True).clamp(min=1) ** -0.5
        said_BTM = (self.rows(keys_BTW) * (real_BTW * scale_BT1)[..., None]).sum(dim=2)
        found_BTD: Tensor = self.out(said_BTM)
        return found_BTD


def captioned(ids_BS: Tensor) -> Captioned:
    """Of each token of whole documents."""
    words_BSW, real_BSW = captions(ids_BS)
    return Captioned(place_BT=run_lengths(ids_BS), words_BTW=words_BSW, real_BTW=real_BSW)


def captions(ids_BS: Tensor) -> tuple[Tensor, Tensor]:
    """For each token the ids of its caption [B, S, W], last first, and which of them are real.

    The caption of an image token, and of a ``<break>``, is the latest text since ``<eos>``: a run of text ids
    and sentinels that ``<break>`` ends. Of an image whose text was cut it is the sentinel.

    >>> words, real = captions(torch.tensor([[1, 2000, 2001, 2, 60000]]))
    >>> (words[0, 4, :2].tolist(), real.sum(-1)[0].tolist())
    ([2001, 2000], [0, 0, 0, 2, 2])
    """
    index_BS = torch.arange(ids_BS.shape[1], device=ids_BS.device).expand_as(ids_BS)
    image_BS = ids_BS >= vocabulary.IMAGE_START
    bound_BS = (ids_BS == vocabulary.BREAK) | (ids_BS == vocabulary.EOS)
    text_BS = ~image_BS & ~bound_BS & (ids_BS != vocabulary.EOSS) & (ids_BS != vocabulary.PAD)
    last_BS = torch.where(text_BS, index_BS, 0).cummax(dim=1).values
    bound_before_BS = torch.where(bound_BS, index_BS, 0).cummax(dim=1).values.gather(1, last_BS)
    at_BSW = last_BS[..., None] - torch.arange(WORDS, device=ids_BS.device)
    asked_BS = image_BS | (ids_BS == vocabulary.BREAK)
    asked_BS &= last_BS > torch.where(ids_BS == vocabulary.EOS, index_BS, 0).cummax(dim=1).values
    real_BSW = (at_BSW > bound_before_BS[..., None]) & asked_BS[..., None]
    words_BSW = ids_BS[:, None].expand(-1, ids_BS.shape[1], -1).gather(2, at_BSW.clamp(min=0))
    return words_BSW, real_BSW


def run_lengths(ids_BT: Tensor) -> Tensor:
    """For each token the number of consecutive image tokens that end with it.

    >>> run_lengths(torch.tensor([[5, 57344, 57345, 5, 57346]])).tolist()
    [[0, 1, 2, 0, 1]]
    """
    image_BT = ids_BT >= vocabulary.IMAGE_START
    index_BT = torch.arange(1, ids_BT.shape[1] + 1, device=ids_BT.device).expand_as(ids_BT)
    last_other_BT = torch.where(image_BT, 0, index_BT).cummax(dim=1).values
    return torch.where(image_BT, index_BT - last_other_BT, 0)
