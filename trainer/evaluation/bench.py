"""A model at work on held-out items: prompts in batches, pictures through the tokenizer, vectors of them.

The surprising rule: baselines go through the image tokenizer too, as all that a model draws does. So a copy
is what a model that copies tokens would give, and what the tokenizer loses is nobody's merit.

N pictures, T codes, D embedding.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Generic, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from infra.corpus import Corpus, Version
from infra.telemetry import Log
from pipeline import captions, schema
from pipeline.searching.library import Found
from tokenizer_service import coding
from trainer import prompts, sampler
from trainer.evaluation import known
from trainer.evaluation.known import Codes, Known, Listed, R, R_co, Vectors
from trainer.evaluation.rights import Rights
from trainer.instruct.reading import Reader
from trainer.prompts import Ids, image_prompt
from trainer.sampler import Request, SamplerSection
from trainer.studio import Pixels, Studio
from trainer.tasks import Captioned, Picture, Record

ALONE = (
    "Where an item is the only one of its kind, of any kind; where it is the only one, a training picture."
)
"""What chance is there."""
BATCH = 64
"""Prompts drawn at once: their caches, in three streams, are 0.4 GB for a model of 20 M parameters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Item(Generic[R_co]):
    """A held-out example with its pictures, by uid."""

    name: str
    record: R_co
    sources: tuple[str, ...]
    pictures: Mapping[str, Pixels] = field(repr=False)


def every(_: object) -> bool:
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """One run beside its corpus."""

    corpus: Corpus
    version: Version
    studio: Studio
    known: Known
    rights: Rights
    section: SamplerSection
    seed: int
    num_items: int
    """Of each task, where there are so many."""
    reader: Reader | None = None
    """Of signs, where it is installed."""
    log: Log = field(default_factory=Log, repr=False)

    def items(
        self, kind: type[R], where: Callable[[R], bool] = every, share: int = 1, *, changed: bool = False
    ) -> list[Item[R]]:
        """Held-out examples of a task that meet a condition, at most a ``share``-th of the number; where they
        are to be ``changed``, those of which pictures may be made.
        """
        found = known.of_kind(self.known.held_out, kind)
        wanted = [
            one for one in found if where(one.record) and (not changed or self.rights.may_derive(one.sources))
        ]
        return self.opened(known.chosen(wanted, max(1, self.num_items // share)))

    def opened(self, wanted: Sequence[Listed[R]]) -> list[Item[R]]:
        """With their pictures, in the order asked for."""
        pictures = known.pictures(self.corpus, self.version, {one.name for one in wanted})
        return [
            Item(name=one.name, record=one.record, sources=one.sources, pictures=pictures[one.name])
            for one in wanted
        ]

    def rng(self, *about: object) -> np.random.Generator:
        return captions.generator("evaluate", self.seed, *about)

    def decoded(self, codes_NT: Iterable[Codes]) -> list[Pixels]:
        rows = list(codes_NT)
        return list(coding.decode_codes(self.studio.vq, np.stack(rows))) if rows else []

    def through(self, pictures: Sequence[Pixels]) -> list[Pixels]:
        """What is left of pictures behind the tokenizer."""
        return self.decoded(self.studio.codes(pictures))

    def chance(self, true: Sequence[Pixels], kinds: Sequence[str | int], name: str) -> list[Pixels]:
        """For each item the true picture of another one of its kind behind the tokenizer; a random training
        picture where there is no other item.
        """
        rng = self.rng("chance", name)
        if len(true) == 1:
            uid = self.known.uids[int(rng.integers(len(self.known.uids)))]
            return self.through([self.studio.picture(uid)])
        return self.through([true[i] for i in others_alike(kinds, rng)])

    def remembered(self, uids: Sequence[str]) -> list[Pixels]:
        """Training pictures, derived ones too, as the packs hold them."""
        codes = self.known.codes(set(uids))
        return self.decoded([codes[uid] for uid in uids])

    def neighbors(self, item: Item[Captioned], k: int) -> list[Found]:
        """Of the caption, none of the item's own duplicate group."""
        return self.studio.neighbors(item.record.caption, k, without=self._own_group(item))

    def alike(self, item: Item[Captioned], k: int) -> Sequence[Found]:
        """Of the picture, none of the item's own duplicate group; as many as the context has room for."""
        found = self.studio.alike(picture_of(item, "image"), k, without=self._own_group(item))
        return self.studio.fitting(found, self.section.max_text_tokens)

    def _own_group(self, item: Item[Captioned]) -> list[str]:
        group = self.studio.fact(item.record.image.uid, schema.GROUP)
        return [] if group is None else [group]

    def prompt(self, item: Item[Record]) -> Ids:
        return self.studio.prompt(item.record, item.pictures)

    def asking(self, text: str, neighbors: Sequence[str] = ()) -> Ids:
        """The prompt for a picture, behind as many of the neighbors as the context has room for; words for
        which there is none are cut.
        """
        room = self.studio.model.section.context - self.studio.num_codes
        words, found = self.studio.words(text), [self.studio.pair(uid) for uid in neighbors]
        pairs = prompts.fitting(found, partial(image_prompt, words), room)
        return image_prompt(words[: room - len(image_prompt((), pairs))], pairs)

    def draw(
        self, name: str, requests: Sequence[Request], section: SamplerSection | None = None
    ) -> list[Pixels]:
        """One picture [side, side, 3] for each sample of each request."""
        return self.decoded(self.draw_codes(name, requests, self.studio.num_codes, section))

    def draw_codes(
        self, name: str, requests: Sequence[Request], num_tokens: int, section: SamplerSection | None = None
    ) -> list[Codes]:
        """Rows of ``num_tokens`` codes."""
        found: list[Codes] = []
        with self.log.bar(name, total=len(requests), unit="prompts") as bar:
            for batch in batches(requests):
                codes_NT = sampler.draw_images(
                    self.studio.model, batch, section or self.section, num_tokens=num_tokens, seed=self.seed
                )
                found += list(codes_NT)
                bar.advance(len(batch))
        return found

    def captions(
        self, name: str, items: Sequence[Item[Captioned]], neighbors: Sequence[Sequence[Found]]
    ) -> list[str]:
        """Of each item's picture, behind its neighbors."""
        rows = [
            self.studio.caption_prompt(picture_of(item, "image"), found)
            for item, found in zip(items, neighbors, strict=True)
        ]
        return self.words(name, rows)

    def answers(self, name: str, items: Sequence[Item[Record]]) -> list[str]:
        """The words that the model puts where each item's are asked for."""
        return self.words(name, [self.prompt(item) for item in items])

    def words(self, name: str, rows: Sequence[Ids]) -> list[str]:
        """What the model writes behind each prompt: the likeliest, token by token."""
        room = self.studio.model.section.context - max(map(len, rows))
        most = min(self.section.max_text_tokens, room)
        section = self.section.model_copy(update={"temperature": 0.0, "max_text_tokens": most})
        found: list[str] = []
        with self.log.bar(name, total=len(rows), unit="texts") as bar:
            for batch in batches(rows):
                found += [words.strip() for words in self.studio.texts(batch, section, seed=self.seed)]
                bar.advance(len(batch))
        return found

    def vectors(self, pictures: Sequence[Pixels]) -> Vectors:
        """[N, D] by the corpus's encoder, of unit length; pictures that are no squares are squashed."""
        side = self.studio.library.searcher.side
        found = [
            self.studio.library.searcher.images(np.stack([resized(one, side) for one in batch]))
            for batch in batches(pictures)
        ]
        return np.concatenate(found) if found else np.zeros((0, self.known.vectors_ND.shape[1]), np.float32)

    def texts(self, texts: Sequence[str]) -> Vectors:
        """[N, D] by the corpus's encoder, of unit length."""
        return self.studio.library.searcher.texts(texts)

    def may_show(self, uids: Collection[str]) -> bool:
        """Whether licences let everything be displayed that a picture, or words, were made of."""
        return all(uid not in self.rights.unshown and self.studio.library.facts(uid) for uid in uids)

    def shown(self, picture: Pixels, uids: Collection[str]) -> Pixels | None:
        return picture if self.may_show(uids) else None

    def said(self, words: str, uids: Collection[str]) -> str | None:
        return words if self.may_show(uids) else None


def resized(picture: Pixels, side: int) -> Pixels:
    """[side, side, 3], larger or smaller."""
    how = cv2.INTER_AREA if min(picture.shape[:2]) >= side else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(picture, (side, side), interpolation=how), np.uint8)


T = TypeVar("T")


def batches(rows: Sequence[T]) -> list[Sequence[T]]:
    return [rows[start : start + BATCH] for start in range(0, len(rows), BATCH)]


def others(num: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """For each of ``num`` items another one, at random. Raises ValueError for one alone."""
    if num == 1:
        raise ValueError("one item has no other; compare it with a training picture")
    shift = rng.permutation(num)
    following = np.empty(num, np.int64)
    following[shift] = np.roll(shift, 1)
    return following


def others_alike(kinds: Sequence[str | int], rng: np.random.Generator) -> list[int]:
    """For each item another one of its kind, as :func:`others`; of any kind, where it is alone of its own."""
    found: list[int] = others(len(kinds), rng).tolist()
    for kind in dict.fromkeys(kinds):
        mine = [i for i, one in enumerate(kinds) if one == kind]
        if len(mine) > 1:
            for i, other in zip(mine, others(len(mine), rng), strict=True):
                found[i] = mine[other]
    return found


def picture_of(item: Item[Record], name: str) -> Pixels:
    """A picture of an item's record, by field."""
    shown: Picture = getattr(item.record, name)
    return item.pictures[shown.uid]
