"""Captions of benchmarks that stand in the corpus: words in a row that both share, and captions that are one.

A user brings the lists, a caption in each line; none is shipped. N words in a row are compared, as
GPT-3's authors did with 13 (Brown et al., 2020, arXiv 2005.14165, appendix C); captions are shorter than web
pages. Shapes: N words of a shard.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.card.figures import Figure
from pipeline.card.matching import Ints, Words, among, distinct
from pipeline.card.parts import Part, flat

MIX = np.uint64(0x9E3779B97F4A7C15)
"""An odd number without pattern (2^64 over the golden ratio): a run of words is a polynomial in it, without a
constant term, whose lowest bit alone would tell two words apart. Whatever meets it has to be uint64: with an
int or a float beside it, numpy rounds to 53 bits, and from the 7th word on nothing is left."""
SHORTEST = 4
"""Words that a caption has at least to be called the same: "a dog" is everywhere."""


@dataclass(slots=True)
class Benchmark:
    name: str
    captions: int
    runs: Ints
    """Sorted hashes of the runs of words."""
    wholes: Ints
    """Sorted hashes of whole captions."""
    seen: set[int] = field(default_factory=set)
    """Whole captions that were found."""
    assets: int = 0
    """Kept assets that share a run."""
    same: int = 0
    """Kept assets whose caption is one of the benchmark's."""


@dataclass(slots=True)
class Contamination:
    """Of the kept captions of the shards seen so far."""

    known: pa.Array
    """Every word of every benchmark."""
    length: int
    benchmarks: tuple[Benchmark, ...]
    total: int = 0

    @staticmethod
    def of(files: Mapping[str, str], length: int) -> Contamination:
        texts = {name: captions(Path(file)) for name, file in files.items()}
        words = {name: Words.of(pa.array(lines, pa.string())) for name, lines in texts.items()}
        every = [one.words for one in words.values()]
        known = pc.unique(pa.concat_arrays(every)) if every else pa.array([], pa.string())
        known = known.filter(pc.not_equal(known, ""))
        found = []
        for name, one in words.items():
            code_N, text_N = spoken(one, known)
            found.append(
                Benchmark(
                    name=name,
                    captions=len(texts[name]),
                    runs=distinct(runs(code_N, text_N, length)[0]),
                    wholes=distinct(wholes(code_N, text_N)[0]),
                )
            )
        return Contamination(known=known, length=length, benchmarks=tuple(found))

    def add(self, part: Part) -> None:
        texts = flat(part.kept_told()["description"])
        self.total += len(texts)
        if not self.benchmarks:
            return
        code_N, text_N = spoken(Words.of(texts), self.known)
        run_hashes, run_texts = runs(code_N, text_N, self.length)
        whole_hashes, _ = wholes(code_N, text_N)
        for one in self.benchmarks:
            hit = among(run_hashes, one.runs)
            one.assets += len(set(run_texts[hit].tolist()))
            same = whole_hashes[among(whole_hashes, one.wholes)]
            one.same += len(same)
            one.seen |= set(same.tolist())

    def figure(self) -> Figure:
        return Figure(
            name="contamination.captions",
            title="Captions of benchmarks",
            step="records",
            file="records.parquet",
            counted=f"description (record JSON) of kept rows: {self.length} words in a row that a "
            f"caption of the benchmark has too; all words the same, of at least {SHORTEST}; words are runs "
            "of letters and digits without regard to case",
            values=[
                {
                    "benchmark": one.name,
                    "captions": one.captions,
                    "assets_sharing_words": one.assets,
                    "share": one.assets / self.total if self.total else 0.0,
                    "assets_same": one.same,
                    "captions_found": len(one.seen),
                }
                for one in self.benchmarks
            ],
        )


def captions(path: Path) -> list[str]:
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(
            f"cannot read the benchmark {path}: {error}; give a text with a caption a line"
        ) from None
    return [line for line in lines if line.strip()]


def spoken(words: Words, known: pa.Array) -> tuple[Ints, Ints]:
    """[N] codes and texts of the words, 0 for one that no benchmark has; without what is no word."""
    is_word = np.asarray(pc.not_equal(words.words, ""), np.bool_)
    return words.codes(known)[is_word] + 1, words.text_N[is_word]


def runs(code_N: Ints, text_N: Ints, length: int) -> tuple[Ints, Ints]:
    """Hashes of all runs of so many known words within a text, and their texts."""
    count = max(len(code_N) - length + 1, 0)
    hashes, whole = np.zeros(count, np.uint64), np.ones(count, np.bool_)
    for step in range(length):
        here = code_N[step : step + count]
        hashes = (hashes + here.astype(np.uint64)) * MIX
        whole &= here > 0
    whole &= text_N[:count] == text_N[length - 1 : length - 1 + count]
    return positive(hashes[whole]), text_N[:count][whole]


def wholes(code_N: Ints, text_N: Ints) -> tuple[Ints, Ints]:
    """Hashes of the texts of enough words, all of which are known, and these texts."""
    starts = np.flatnonzero(np.diff(text_N, prepend=-1))
    sizes = np.diff(np.append(starts, len(text_N)))
    place = np.arange(len(code_N)) - np.repeat(starts, sizes)
    weights = np.cumprod(np.full(sizes.max(initial=0), MIX, np.uint64), dtype=np.uint64)
    terms = code_N.astype(np.uint64) * weights[place]
    sums = np.add.reduceat(terms, starts) if len(starts) else np.zeros(0, np.uint64)
    unknown = np.add.reduceat(code_N == 0, starts) if len(starts) else np.zeros(0, np.int64)
    good = (sizes >= SHORTEST) & (unknown == 0)
    return positive(sums[good]), text_N[starts][good]


def positive(hashes: np.ndarray[tuple[int], np.dtype[np.uint64]]) -> Ints:
    """63 bits of a hash."""
    return (hashes >> np.uint64(1)).astype(np.int64)
