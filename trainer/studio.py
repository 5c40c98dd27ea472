"""A trained model beside its corpus: draw from words, caption a picture, with neighbors that may be used.

Neighbors come from the index as in training: assets of the training split whose licence grants
``retrieval_index``. What was used is returned with every sample, so that it can be credited.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from infra.corpus import Corpus, Version
from pipeline import encoding, refs, schema, tokenized
from pipeline.searching.library import Found, Library, open_library
from pipeline.split import TRAIN
from pipeline.tokenized import Tokenizers, Tokens
from pipeline.tokenizer.tokenizing import image_side, load_bpe, load_vq
from pipeline.tokens import BPE, TOKENS, VQ
from tokenizer_service import coding, text, vocabulary, vq
from trainer import prompts, sampler
from trainer.checkpoint import Checkpoints, load_model
from trainer.folder import check_tokenizers
from trainer.model import Transformer
from trainer.prompts import Pair
from trainer.sampler import Request, SamplerSection

Pixels = NDArray[np.uint8]


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

    @property
    def num_codes(self) -> int:
        """Image tokens of one image."""
        return len(next(iter(self.tokens.values())).codes)

    def neighbors(self, words: str, k: int, *, without: Sequence[str] = ()) -> list[Found]:
        """The ``k`` nearest assets that may be neighbors, none of the duplicate groups ``without``."""
        found = self.library.nearest(
            self.library.query(text=words),
            k + 8,
            where=schema.MAY_BE_NEIGHBOR,
            without=without,
        )
        usable = [one for one in found if self.usable(one)]
        return usable[:k]

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

    def draw(
        self,
        words: Sequence[str],
        neighbors: Sequence[Sequence[Found]],
        section: SamplerSection,
        *,
        seed: int,
        samples: int = 1,
    ) -> list[Pixels]:
        """Pictures [samples, side, side, 3] of each prompt."""
        requests = [
            Request(
                prompt=prompts.image_prompt(self.words(one), [self.pair(one.uid) for one in found]),
                samples=samples,
            )
            for one, found in zip(words, neighbors, strict=True)
        ]
        return self._pictures(requests, section, seed=seed)

    def _pictures(self, requests: Sequence[Request], section: SamplerSection, *, seed: int) -> list[Pixels]:
        """Grouped by request."""
        codes_NT = sampler.draw_images(self.model, requests, section, num_tokens=self.num_codes, seed=seed)
        pictures_NHWC = coding.decode_codes(self.vq, codes_NT.astype(np.uint16))
        return np.split(pictures_NHWC, np.cumsum([request.samples for request in requests])[:-1])

    def caption(self, images: Sequence[Pixels], section: SamplerSection, *, seed: int) -> list[str]:
        """Words for each picture [side, side, 3], without neighbors."""
        codes_BT = coding.encode_images(self.vq, np.stack(images))
        rows = [prompts.caption_prompt(vocabulary.from_codes(codes).tolist()) for codes in codes_BT]
        drawn = sampler.draw_texts(self.model, [Request(prompt=row) for row in rows], section, seed=seed)
        return [self.bpe.decode(vocabulary.to_text(np.asarray(ids, np.int64))) for ids in drawn]

    def picture(self, uid: str) -> Pixels:
        """The asset's training image, as the model sees it before the tokenizer."""
        return self.square(self.library.image(uid))

    def square(self, image: bytes) -> Pixels:
        """Any image as the tokenizer takes it."""
        return encoding.square(image, self.side, self.vq.config.preprocessing)


def open_studio(corpus: Corpus, version: Version, run: Path) -> Studio:
    """Raises ``OtherRun`` if the corpus has other tokenizers than the run was trained with."""
    # The last weights, not the best: a small model draws what it has learnt by heart, and its loss on what
    # it has never seen turns up long before.
    last = Checkpoints(folder=run).latest()
    if last is None:
        raise ValueError(f"{run} holds no checkpoint; run `pardalis train --run {run}` first")
    check_tokenizers(run, corpus, version)
    shards = corpus.artifact(version, "tokenize").shards.values()
    made_by = Tokenizers(
        text=corpus.artifact(version, "bpe").only.sha256(BPE),
        image=corpus.artifact(version, "vq").only.sha256(VQ),
    )
    tokens = tokenized.read([refs.of(corpus.store, shard, TOKENS) for shard in shards], made_by)
    return Studio(
        library=open_library(corpus, version),
        tokens=tokens,
        model=load_model(last),
        bpe=load_bpe(corpus, version),
        vq=load_vq(corpus, version),
        side=image_side(corpus, version),
        max_score=float(corpus.artifact(version, "neighbors").settings["max_score"]),
    )
