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
from torch.nn import functional

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
    """Tokens of its image up to each: :func:`image_places`."""
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


def captioned(ids_BS: Tensor, positions_BS: Tensor, num_places: int = 0) -> Captioned:
    """Of each token of whole documents, with its index in them."""
    cuts = Cuts.of(ids_BS, positions_BS)
    words_BSW, real_BSW = captions(ids_BS, cuts)
    place_BS = image_places(ids_BS, cuts, num_places)
    return Captioned(place_BT=place_BS, words_BTW=words_BSW, real_BTW=real_BSW)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cuts:
    """Where something was cut out of documents, and where it stands instead; all [B, T]."""

    is_sentinel_BT: Tensor
    mark_BT: Tensor
    """Of a sentinel that opens an infill the index of the one that stands where it was cut; else -1."""
    image_BT: Tensor
    """Image tokens."""
    before_BT: Tensor
    """Index of the last token up to each that is none of an image; -1: there is none."""
    opened_BT: Tensor
    """Index of the mark whose infill each image token is of; -1: of none."""

    @staticmethod
    def of(ids_BT: Tensor, positions_BT: Tensor) -> Cuts:
        first = vocabulary.FIRST_SENTINEL
        is_sentinel_BT = (ids_BT >= first) & (ids_BT < first + vocabulary.NUM_SENTINELS)
        image_BT = ids_BT >= vocabulary.IMAGE_START
        before_BT = torch.where(image_BT, -1, _index(ids_BT)).cummax(dim=1).values
        mark_BT = _marks(ids_BT, positions_BT, is_sentinel_BT)
        return Cuts(
            is_sentinel_BT=is_sentinel_BT,
            mark_BT=mark_BT,
            image_BT=image_BT,
            before_BT=before_BT,
            opened_BT=torch.where(before_BT >= 0, mark_BT.gather(1, before_BT.clamp(min=0)), -1),
        )

    @property
    def of_image_BT(self) -> Tensor:
        """Sentinels with image tokens at a side: they stand for no words."""
        nowhere_B1 = torch.zeros_like(self.image_BT[:, :1])
        beside_BT = torch.cat((nowhere_B1, self.image_BT[:, :-1]), 1)
        beside_BT = beside_BT | torch.cat((self.image_BT[:, 1:], nowhere_B1), 1)
        return self.is_sentinel_BT & beside_BT


def captions(ids_BS: Tensor, cuts: Cuts) -> tuple[Tensor, Tensor]:
    """For each token the ids of its caption [B, S, W], last first, and which of them are real.

    The caption of an image token, and of a ``<break>``, is the latest text since ``<eos>``: a run of text ids
    and sentinels. Of an image whose text was cut it is the sentinel; of what was cut out of an image it is
    that of the image.

    >>> ids = torch.tensor([[1, 2000, 2001, 2, 60000]])
    >>> words, real = captions(ids, Cuts.of(ids, torch.arange(5)[None]))
    >>> (words[0, 4, :2].tolist(), real.sum(-1)[0].tolist())
    ([2001, 2000], [0, 0, 0, 2, 2])
    """
    index_BS = _index(ids_BS)
    text_BS = ~cuts.image_BT & ~cuts.of_image_BT
    for other in (vocabulary.BREAK, vocabulary.EOS, vocabulary.EOSS, vocabulary.PAD):
        text_BS &= ids_BS != other
    # An infill is asked where its image was cut.
    asked_at_BS = torch.where(cuts.opened_BT >= 0, cuts.opened_BT, index_BS)
    up_to_BS = torch.where(text_BS, index_BS, 0).cummax(dim=1).values
    last_BS = up_to_BS.gather(1, asked_at_BS)
    # The mark of an image that was cut whole looks like that of a text.
    whole_BS = (cuts.opened_BT >= 0) & (last_BS == asked_at_BS)
    last_BS = torch.where(whole_BS, up_to_BS.gather(1, (last_BS - 1).clamp(min=0)), last_BS)
    bound_before_BS = torch.where(text_BS, 0, index_BS).cummax(dim=1).values.gather(1, last_BS)
    at_BSW = last_BS[..., None] - torch.arange(WORDS, device=ids_BS.device)
    begins_BS = torch.where(ids_BS == vocabulary.EOS, index_BS, 0).cummax(dim=1).values
    asked_BS = cuts.image_BT | (ids_BS == vocabulary.BREAK)
    asked_BS &= last_BS > begins_BS.gather(1, asked_at_BS)
    real_BSW = (at_BSW > bound_before_BS[..., None]) & asked_BS[..., None]
    words_BSW = ids_BS[:, None].expand(-1, ids_BS.shape[1], -1).gather(2, at_BSW.clamp(min=0))
    return words_BSW, real_BSW


def _index(ids_BT: Tensor) -> Tensor:
    return torch.arange(ids_BT.shape[1], device=ids_BT.device).expand_as(ids_BT)


def image_places(ids_BT: Tensor, cuts: Cuts, num_places: int = 0) -> Tensor:
    """For each token the number of tokens of its image up to it; 0 outside of images.

    Counted where an image stands whole. What stands behind a cut, up to the end of its image, is counted from
    that end, if images have ``num_places`` tokens; what was cut goes on from where it was cut, and so does
    the sentinel in front of it, from which its first token is told. Between two cuts nobody knows: counted
    anew.

    >>> ids = torch.tensor([[1, 5000, 2, 60000, 4, 60003, 1, 4, 60001, 60002, 3]])
    >>> image_places(ids, Cuts.of(ids, torch.arange(11)[None]), 4).tolist()
    [[0, 0, 0, 1, 0, 4, 0, 1, 2, 3, 0]]
    """
    index_BT, before_BT, stop = _index(ids_BT), cuts.before_BT, ids_BT.shape[1]
    run_BT = index_BT - before_BT
    behind_BT = torch.where(cuts.image_BT, stop, index_BT).flip(1).cummin(dim=1).values.flip(1)
    # What the row ends in may go on.
    closed_BT = (behind_BT < stop) & ~cuts.is_sentinel_BT.gather(1, behind_BT.clamp(max=stop - 1))
    behind_cut_BT = (before_BT >= 0) & cuts.is_sentinel_BT.gather(1, before_BT.clamp(min=0))
    left_off_BT = torch.where(cuts.mark_BT > 0, run_BT.gather(1, (cuts.mark_BT - 1).clamp(min=0)), 0)
    resumed_BT = run_BT + left_off_BT.gather(1, before_BT.clamp(min=0))
    aligned_BT = num_places + 1 + index_BT - behind_BT
    known_BT = closed_BT & (aligned_BT >= run_BT)
    told_BT = torch.where(cuts.opened_BT >= 0, resumed_BT, torch.where(known_BT, aligned_BT, run_BT))
    return torch.where(cuts.image_BT, torch.where(behind_cut_BT, told_BT, run_BT), left_off_BT)


def _marks(ids_BT: Tensor, positions_BT: Tensor, cut_BT: Tensor) -> Tensor:
    """See :attr:`Cuts.mark_BT`: the two are the same id of the same document, one behind the other, so
    sorting puts them side by side.
    """
    index_BT = _index(ids_BT)
    begins_BT = index_BT - positions_BT
    key_BT = torch.where(cut_BT, begins_BT * vocabulary.SIZE + ids_BT, -1 - index_BT)
    sorted_BT, order_BT = key_BT.sort(dim=1, stable=True)
    again_BT = functional.pad(sorted_BT[:, 1:] == sorted_BT[:, :-1], (1, 0))
    found_BT = torch.where(again_BT, functional.pad(order_BT[:, :-1], (1, 0)), -1)
    return torch.empty_like(found_BT).scatter(1, order_BT, found_BT)
