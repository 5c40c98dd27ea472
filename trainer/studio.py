"""A trained model beside its corpus: draw from words, caption a picture, with neighbors that may be used.

Neighbors come from the index as in training: assets of the training split whose licence grants
``retrieval_index``. What was used is returned with every sample, so that it can be credited.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from infra.corpus import Corpus, Version
from pipeline import encoding, refs, refused, schema, tokenized
from pipeline.refused import Barred
from pipeline.searching.library import Found, Library, open_library
from pipeline.split import TRAIN
from pipeline.tokenized import Tokenizers, Tokens
from pipeline.tokenizer.tokenizing import image_side, load_bpe, load_vq
from pipeline.tokens import BPE, TOKENS, VQ
from retrieval.segments import Floats
from tokenizer_service import coding, sizes, text, vocabulary, vq
from trainer import folder, parallel, prompts, sampler
from trainer.brushed import on_grid, to_draw
from trainer.checkpoint import Checkpoints, load_model
from trainer.instruct import laying
from trainer.marks import Marks, near_duplicates
from trainer.model import Transformer
from trainer.prompts import Hole, Ids, Pair
from trainer.sampler import Request, SamplerSection
from trainer.tasks import ASKED, Asked, Edited, Picture, Record

Pixels = NDArray[np.uint8]
GIVEN = Picture("given")


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """How pictures are drawn."""

    section: SamplerSection
    seed: int
    samples: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Studio:
    library: Library
    tokens: dict[str, Tokens]
    model: Transformer
    bpe: text.TextTokenizer
    vq: vq.VQ
    side: int
    max_score: float
    """A neighbor more alike than this is left out, as in training."""
    made_by: Mapping[str, str]
    """Which model: the identity of its run, and the name of its checkpoint."""
    barred: Barred
    """What may not be done with assets now, whatever it was when the version was built."""

    @property
    def grid(self) -> int:
        """Image tokens a side."""
        return self.side // self.vq.config.downsample

    @property
    def num_codes(self) -> int:
        """Image tokens of one image."""
        return self.grid**2

    def neighbors(self, words: str, k: int, *, without: Sequence[str] = ()) -> list[Found]:
        """The ``k`` nearest assets that may be neighbors, none of the duplicate groups ``without``."""
        if k == 0:
            return []
        nearest = partial(
            self.library.nearest,
            self.library.query(text=words),
            where=schema.MAY_BE_NEIGHBOR,
            without=without,
            refused=self.barred.neighbors(),
        )
        return first_usable(nearest, k, self.usable)

    def alike(self, picture: Pixels, k: int, *, without: Sequence[str] = ()) -> list[Found]:
        """The ``k`` neighbors that look most like a picture [side, side, 3], none of them that very picture.

        They may be displayed: what is written behind captions repeats them.
        """
        if k == 0:
            return []
        mine = Marks.of([picture])
        nearest = partial(
            self.library.nearest,
            self.vectors([picture]),
            where=schema.MAY_BE_SHOWN,
            without=without,
            refused=self.barred.neighbors() | self.barred.displayed(),
        )

        def is_another(found: Found) -> bool:
            return self.usable(found) and not near_duplicates([self.picture(found.uid)], mine).any()

        return first_usable(nearest, k, is_another)

    def may_display(self, uid: str) -> bool:
        """Whether licences let a member be displayed now."""
        return bool(self.fact(uid, schema.MAY_BE_SHOWN)) and uid not in self.barred.displayed()

    def usable(self, found: Found) -> bool:
        return found.score <= self.max_score and self.fact(found.uid, schema.SPLIT) == TRAIN

    def fact(self, uid: str, column: pa.Field) -> Any:
        """Of a member of the index; None for any other asset."""
        facts = self.library.facts(uid)
        return None if facts is None else facts[column.name]

    def pair(self, uid: str) -> Pair:
        tokens = self.tokens[uid]
        return Pair(
            text=tuple(vocabulary.from_text(tokens.texts[0]).tolist()),
            image=tuple(vocabulary.from_codes(tokens.codes).tolist()),
        )

    def words(self, prompt: str) -> tuple[int, ...]:
        (entries,) = self.bpe.encode([prompt])
        return tuple(vocabulary.from_text(entries).tolist())

    def ids(self, picture: Pixels) -> Ids:
        """Image ids of a picture [side, side, 3]."""
        (codes,) = self.codes([picture])
        return tuple(vocabulary.from_codes(codes).tolist())

    def draw(
        self,
        words: Sequence[str],
        neighbors: Sequence[Sequence[Found]],
        section: SamplerSection,
        *,
        seed: int,
        samples: int = 1,
    ) -> list[Pixels]:
        """Pictures [samples, side, side, 3] of each of the prompts."""
        requests = [
            Request(
                prompt=prompts.image_prompt(self.words(one), [self.pair(near.uid) for near in found]),
                samples=samples,
            )
            for one, found in zip(words, neighbors, strict=True)
        ]
        return self.drawn(requests, section, seed=seed)

    def drawn(self, requests: Sequence[Request], section: SamplerSection, *, seed: int) -> list[Pixels]:
        """Pictures [samples, side, side, 3] of each request for a whole image."""
        codes_NT = sampler.draw_images(self.model, requests, section, num_tokens=self.num_codes, seed=seed)
        pictures = coding.decode_codes(self.vq, codes_NT.astype(np.uint16))
        return np.split(pictures, np.cumsum([request.samples for request in requests])[:-1])

    def rerank(self, words: str, pictures: Pixels) -> list[float]:
        """Cosine of the words with each picture, as the corpus's encoder sees them; the higher the better."""
        scores_N = self.vectors(list(pictures)) @ self.library.searcher.texts([words])[0]
        return [round(float(score), 4) for score in scores_N]

    def vectors(self, pictures: Sequence[Pixels]) -> Floats:
        """[N, D] by the corpus's encoder, of unit length."""
        searcher = self.library.searcher
        return searcher.images(np.stack([sizes.square(picture, searcher.side) for picture in pictures]))

    def edit(self, picture: Pixels, instruction: str, drawing: Drawing) -> Pixels:
        """The picture changed as told [samples, side, side, 3], by two-term guidance: towards the picture,
        and towards what the instruction says of it.
        """
        request = self.edit_request(picture, instruction, samples=drawing.samples)
        (pictures,) = self.drawn([request], drawing.section, seed=drawing.seed)
        return pictures

    def edit_request(self, picture: Pixels, instruction: str, *, samples: int = 1) -> Request:
        """What asks for an edit, with a prompt for each of the two terms of its guidance."""
        record = Edited(before=GIVEN, instruction=instruction, after=ASKED)
        prompt = self.prompt(record, {GIVEN.uid: picture})
        words = self.words(instruction)
        image_only = (*prompt[: -1 - len(words)], *prompts.CUT, vocabulary.BREAK)
        return Request(prompt=prompt, image_only=image_only, samples=samples)

    def infill(
        self,
        picture: Pixels,
        brushed_HW: NDArray[np.bool_],
        words: str,
        neighbors: Sequence[Found],
        drawing: Drawing,
    ) -> Pixels:
        """The picture drawn anew where it is brushed [samples, side, side, 3]; elsewhere it is as the
        tokenizer gives it back. ``ValueError`` if nothing is brushed.
        """
        image = self.ids(picture)
        brushed_T = on_grid(brushed_HW, self.grid)
        start, stop, _ = to_draw(image, brushed_T)
        uids = [near.uid for near in neighbors]
        request = self.infill_request(image, brushed_T, words, uids, samples=drawing.samples)
        codes_NT = sampler.draw_images(
            self.model, [request], drawing.section, num_tokens=stop - start, seed=drawing.seed
        )
        whole_NT = np.tile(vocabulary.to_codes(np.asarray(image, np.int64)), (len(codes_NT), 1))
        whole_NT[:, start:stop] = codes_NT
        return coding.decode_codes(self.vq, whole_NT.astype(np.uint16))

    def infill_request(
        self,
        image: Ids,
        brushed_T: NDArray[np.bool_],
        words: str,
        neighbors: Sequence[str],
        *,
        samples: int = 1,
    ) -> Request:
        """What asks for the tokens from the first brushed one to the last, behind the pairs of the uids; as
        many as are given or ``DRAWN`` in it. ``ValueError`` if nothing is brushed.
        """
        start, stop, given = to_draw(image, brushed_T)
        before = [part for uid in neighbors for part in self.pair(uid).segments]
        hole = Hole(len(before) + 1, start, stop)
        # No document of training has an empty text: without words it is cut, as it is where guidance leads
        # away from.
        text = self.words(words) or prompts.ALSO_CUT
        return Request(
            prompt=prompts.infill([*before, text, image], hole),
            away=prompts.infill([prompts.ALSO_CUT, image], Hole(1, start, stop)),
            samples=samples,
            given=given,
        )

    def ask(self, picture: Pixels, question: str, section: SamplerSection, *, seed: int) -> str:
        """A short answer about a picture [side, side, 3]."""
        record = Asked(question=question, answer="?", image=GIVEN)
        (words,) = self.texts([self.prompt(record, {GIVEN.uid: picture})], section, seed=seed)
        return words

    def caption(
        self,
        images: Sequence[Pixels],
        neighbors: Sequence[Sequence[Found]],
        section: SamplerSection,
        *,
        seed: int,
    ) -> list[str]:
        """Words for each picture [side, side, 3], behind its neighbors."""
        rows = [self.caption_prompt(*pair) for pair in zip(images, neighbors, strict=True)]
        return self.texts(rows, section, seed=seed)

    def caption_prompt(self, picture: Pixels, neighbors: Sequence[Found]) -> Ids:
        return prompts.caption_prompt(self.ids(picture), [self.pair(near.uid) for near in neighbors])

    def fitting(self, neighbors: Sequence[Found], num_new: int) -> Sequence[Found]:
        """The first of a picture's neighbors, as many as leave room for so many new tokens of a caption."""
        image = (vocabulary.IMAGE_START,) * self.num_codes

        def prompt(found: Sequence[Found]) -> Ids:
            return prompts.caption_prompt(image, [self.pair(near.uid) for near in found])

        return prompts.fitting(neighbors, prompt, self.model.section.context - num_new)

    def texts(self, rows: Sequence[Ids], section: SamplerSection, *, seed: int) -> list[str]:
        """The words behind each prompt."""
        requests = [Request(prompt=row) for row in rows]
        drawn = sampler.draw_texts(self.model, requests, section, seed=seed)
        return [self.bpe.decode(vocabulary.to_text(np.asarray(ids, np.int64))) for ids in drawn]

    def prompt(self, record: Record, pictures: Mapping[str, Pixels]) -> Ids:
        """What asks for a record's target, in the words that instruction tuning has for it."""
        codes_NT = self.codes(list(pictures.values()))
        return laying.asking(record, self.bpe.encode, dict(zip(pictures, codes_NT, strict=True)))

    def codes(self, pictures: Sequence[Pixels]) -> NDArray[np.int64]:
        """[N, T] of pictures [side, side, 3], of which there may be none."""
        if not len(pictures):
            return np.zeros((0, self.num_codes), np.int64)
        return coding.encode_images(self.vq, np.stack(pictures)).astype(np.int64)

    def picture(self, uid: str) -> Pixels:
        """The asset's training image, as the model sees it before the tokenizer."""
        return self.square(self.library.image(uid))

    def square(self, image: bytes) -> Pixels:
        """Any image as the tokenizer takes it."""
        return encoding.square(image, self.side, self.vq.config.preprocessing)


def open_studio(
    corpus: Corpus,
    version: Version,
    run: Path,
    *,
    table: pa.Table | None = None,
    barred: Barred | None = None,
) -> Studio:
    """``table``: the members, where they are read already; ``barred``: what may not be done with them, where
    that may change, else it is what may not be at this moment.

    Raises ``OtherRun`` if the corpus has other tokenizers than the run was trained with.
    """
    # The last weights, not the best: a small model draws what it has learnt by heart, and its loss on what
    # it has never seen turns up long before.
    last = Checkpoints(folder=run).latest()
    if last is None:
        raise ValueError(f"{run} holds no checkpoint; run `pardalis train --run {run}` first")
    folder.check_tokenizers(run, corpus, version)
    shards = corpus.artifact(version, "tokenize").shards.values()
    made_by = Tokenizers(
        text=corpus.artifact(version, "bpe").only.sha256(BPE),
        image=corpus.artifact(version, "vq").only.sha256(VQ),
    )
    tokens = tokenized.read([refs.of(corpus.store, shard, TOKENS) for shard in shards], made_by)
    return Studio(
        library=open_library(corpus, version, table),
        tokens=tokens,
        model=load_model(last).to(parallel.device()),
        bpe=load_bpe(corpus, version),
        vq=load_vq(corpus, version),
        side=image_side(corpus, version),
        max_score=float(corpus.artifact(version, "neighbors").settings["max_score"]),
        made_by={"run": str(folder.read(run).get("identity")), "checkpoint": last.name},
        barred=barred or refused.barred(corpus, version),
    )


def first_usable(
    nearest: Callable[[int], list[Found]], k: int, usable: Callable[[Found], bool]
) -> list[Found]:
    """The first ``k`` that are usable, however many have to be fetched."""
    fetched = k + 8
    while True:
        found = nearest(fetched)
        kept = list(itertools.islice(filter(usable, found), k))
        if len(kept) == k or len(found) < fetched:
            return kept
        fetched *= 2
