"""What a neighbor is worth to somebody who only copies: likelihoods of images without any model.

A token of an image is drawn from a mixture: how often training images have it at this place, how often
anywhere, and the token that a neighbor has at this place. The weights are fitted on documents of the training
split, whose targets are left out of the counts that judge them; the loss is told of held-out targets.

Shapes: N images, Q pairs of a document, T codes of an image, C codes of the codebook, M = N T tokens,
E experts of a mixture.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.blocks import Blocks, Shard
from pipeline.packed import Modality
from pipeline.shards import Block
from tokenizer_service import vocabulary

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

ROUNDS = 200
"""Of expectation maximisation: the weights of four experts move by less than 1e-4 after 50."""
MIXTURES = {
    "codes by frequency": (1,),
    "codes by frequency at their place": (0, 1),
    "copy of the first neighbor": (0, 1, 2),
    "copy of either neighbor": (0, 1, 2, 3),
}
"""Which of the experts each baseline mixes: 0 frequency at the place, 1 anywhere, 2 and 3 the neighbors."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """What a packed document shows to whoever copies, and what it costs to train on."""

    uid: str
    """Of the target."""
    num_tokens: int
    num_target_tokens: int
    """The target's text and image, each with the mark behind it."""
    codes_QT: Ints
    """Of its images, the target's last."""


def documents(shards: Sequence[Shard]) -> Iterator[Document]:
    """Every document of some packs."""
    blocks = Blocks(shards, keep=1)
    for number in range(len(blocks)):
        yield from of_block(blocks.block(number))


def of_block(block: Block) -> Iterator[Document]:
    listed, spanned = (block.record.column(column).to_pylist() for column in (2, 3))
    for ids_T, in_row, spans in zip(block.tokens_RT, listed, spanned, strict=True):
        for number, document in enumerate(in_row):
            mine = [span for span in spans if span["document"] == number]
            images = [span for span in mine if span["modality"] == Modality.IMAGE]
            codes = [ids_T[span["start"] :][: span["length"]] for span in images]
            yield Document(
                uid=mine[-1]["uid"],
                num_tokens=document["length"],
                num_target_tokens=sum(span["length"] + 1 for span in mine[-2:]),
                codes_QT=vocabulary.to_codes(np.stack(codes)),
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Frequencies:
    """How often the images of the training split have each code."""

    num_images: int
    place_TC: Ints
    anywhere_C: Ints

    @staticmethod
    def of(codes_NT: Ints, num_codes: int) -> Frequencies:
        place_TC = np.zeros((codes_NT.shape[1], num_codes), np.int64)
        np.add.at(place_TC, (np.arange(codes_NT.shape[1]), codes_NT), 1)
        return Frequencies(num_images=len(codes_NT), place_TC=place_TC, anywhere_C=place_TC.sum(axis=0))


def experts(found: Sequence[Document], counts: Frequencies, *, counted: int) -> Floats:
    """[M, E]: the probability that each expert gives each token of the targets.

    ``counted`` is 1 where the targets are among the images counted, and are taken out of them here: else a
    code that only one image has would look well foreseen. Documents need two neighbors.
    """
    codes_NQT = np.stack([document.codes_QT[-3:] for document in found])
    target_NT = codes_NQT[:, -1]
    places_T = np.arange(target_NT.shape[1])
    at_place_NT = (counts.place_TC[places_T, target_NT] - counted) / (counts.num_images - counted)
    smooth_C = (counts.anywhere_C + 1) / (counts.anywhere_C + 1).sum()
    copies_NT = [codes_NQT[:, number] == target_NT for number in (0, 1)]
    columns = [at_place_NT, smooth_C[target_NT], *copies_NT]
    return np.stack([column.ravel().astype(np.float64) for column in columns], axis=1)


def fitted(given_ME: Floats) -> Floats:
    """[E]: the weights under which what was seen is likeliest, by expectation maximisation.

    >>> given = np.array([[0.5, 1.0], [0.5, 1.0], [0.5, 1.0], [0.5, 0.0]])
    >>> fitted(given).round(2).tolist()
    [0.5, 0.5]
    """
    weights_E = np.full(given_ME.shape[1], 1 / given_ME.shape[1])
    for _ in range(ROUNDS):
        share_ME = given_ME * weights_E
        weights_E = (share_ME / share_ME.sum(axis=1, keepdims=True)).mean(axis=0)
    return weights_E


def nats(given_ME: Floats, weights_E: Floats) -> float:
    """A token, on average."""
    return float(-np.log(given_ME @ weights_E).mean())


def baselines(training: Iterable[Document], held_out: Iterable[Document], num_codes: int) -> dict[str, Any]:
    """The loss of each mixture on the held-out targets, and its weights."""
    seen, judged = list(training), [one for one in held_out if len(one.codes_QT) > 2]
    first = {document.uid: document.codes_QT[-1] for document in seen}
    counts = Frequencies.of(np.stack(list(first.values())), num_codes)
    fit_ME = experts([one for one in seen if len(one.codes_QT) > 2], counts, counted=1)
    told_ME = experts(judged, counts, counted=0)
    losses = {}
    for name, chosen in MIXTURES.items():
        weights_E = fitted(fit_ME[:, list(chosen)])
        loss = nats(told_ME[:, list(chosen)], weights_E)
        losses[name] = {"loss": round(loss, 4), "weights": weights_E.round(4).tolist()}
    return {
        "training_images": counts.num_images,
        "held_out_images": len(judged),
        "first_neighbor_agrees": round(float(told_ME[:, 2].mean()), 4),
        "losses": losses,
    }
