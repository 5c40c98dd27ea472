"""Filling in a part of a picture that is missing.

The surprising rule: baselines are spliced into the true codes and drawn with them, so that a seam costs all
alike. Only the mean color of the rest is painted, and has no seam behind the tokenizer.

T codes of a picture, left to right and downwards.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np

from pipeline.colors import Pixels
from tokenizer_service import vocabulary
from trainer import prompts
from trainer.evaluation import again, pictures
from trainer.evaluation.bench import Bench, Item, picture_of
from trainer.evaluation.judged import (
    CEILING,
    CHANCE,
    COPY,
    MEAN,
    MODEL,
    SHOWN,
    Judged,
    Measure,
    Shown,
    nothing,
)
from trainer.evaluation.known import Codes
from trainer.instruct.scenes import Mask
from trainer.sampler import DRAWN, Request
from trainer.sampling import NEIGHBORS
from trainer.tasks import Captioned

SEARCHED = 32
"""Pixels a side at which the nearest training picture is looked for."""


def filled(bench: Bench) -> Judged:
    items = bench.items(Captioned, lambda record: record.wording == 0, changed=True)
    if not items or not len(bench.known.changeable):
        return nothing("Infill", "no held-out picture that may be changed has a caption to stand beside it")
    true = [picture_of(item, "image") for item in items]
    codes = list(bench.studio.codes(true))
    rows = [cut(item.name, bench.studio.num_codes) for item in items]
    masks = [mask(one, bench.studio.num_codes, bench.studio.side) for one in rows]
    near = nearest(bench, true, rows)
    random = bench.rng("chance", "infill").choice(bench.known.changeable, len(items))
    beside = {
        CHANCE: bench.decoded(spliced(codes, rows, list(bench.known.codes_NT[random]))),
        COPY: bench.decoded(spliced(codes, rows, [bench.known.codes_NT[i] for i in near])),
        MEAN: [mean_filled(one, hole) for one, hole in zip(true, masks, strict=True)],
        CEILING: bench.decoded(codes),
    }
    ways = {
        "cut": bench.decoded(infilled(bench, items, codes, rows)),
        "left to right": bench.decoded(continued(bench, items, codes, rows)),
    }
    drawn = {MODEL: ways["cut"], **beside}
    return Judged(
        title="Infill",
        about=(
            "A quarter of the rows of tokens is missing; PSNR of that region against the true picture, in dB."
            " Cut, as `pardalis sample` and the playground ask: all around it is seen, the caption and up to "
            f"{NEIGHBORS} neighbors; a run trained on whole cuts alone never saw that. Left to right: what "
            "is above it and the caption are seen. Chance: the region of a random training picture. Copy: of "
            "the training picture most like what is left. Mean color of the rest: the region painted in it. "
            "Ceiling: the true codes."
        ),
        measures=measured(true, masks, ways, beside),
        tables=[again.duplicates(bench, {f"{MODEL}, {way}": each for way, each in ways.items()} | beside)],
        shown=[
            Shown(
                said={"caption": bench.said(item.record.caption, item.sources)},
                pictures={
                    "given": bench.shown(blanked(true[i], masks[i]), item.sources),
                    MODEL: bench.shown(drawn[MODEL][i], item.sources),
                    "true": bench.shown(true[i], item.sources),
                    COPY: bench.shown(drawn[COPY][i], [*item.sources, bench.known.uids[near[i]]]),
                },
            )
            for i, item in enumerate(items[:SHOWN])
        ],
    )


def measured(
    true: Sequence[Pixels],
    masks: Sequence[Mask],
    ways: Mapping[str, Sequence[Pixels]],
    beside: Mapping[str, Sequence[Pixels]],
) -> list[Measure]:
    def errors(each: Sequence[Pixels]) -> list[float]:
        return [pictures.psnr(a, b, hole) for a, b, hole in zip(true, each, masks, strict=True)]

    others = {who: errors(each) for who, each in beside.items()}
    return [
        Measure(name=f"PSNR of the region in dB, {way}", scores={MODEL: errors(each), **others})
        for way, each in ways.items()
    ]


def cut(name: str, num_codes: int) -> tuple[int, int]:
    """Tokens [start, stop): a quarter of the rows, neither the first nor the last, by the item's hash.

    >>> start, stop = cut("caption:1", 256)
    >>> (stop - start, start % 16)
    (64, 0)
    """
    grid = math.isqrt(num_codes)
    high = max(1, grid // 4)
    first = 1 + int.from_bytes(name.encode()[-4:], "big") % max(1, grid - high - 1)
    return first * grid, min(grid, first + high) * grid


def continued(
    bench: Bench, items: Sequence[Item[Captioned]], codes: Sequence[Codes], rows: Sequence[tuple[int, int]]
) -> list[Codes]:
    """All codes, drawn behind the caption; outside of the hole the true ones are given."""
    requests = []
    for item, codes_T, (start, stop) in zip(items, codes, rows, strict=True):
        given = vocabulary.from_codes(codes_T).tolist()
        given[start:stop] = [DRAWN] * (stop - start)
        prompt = prompts.image_prompt(bench.studio.words(item.record.caption))
        requests.append(Request(prompt=prompt, given=tuple(given)))
    return bench.draw_codes("infill", requests, bench.studio.num_codes)


def infilled(
    bench: Bench, items: Sequence[Item[Captioned]], codes: Sequence[Codes], rows: Sequence[tuple[int, int]]
) -> list[Codes]:
    """All codes, with the model's in the hole."""
    requests = [request(bench, *one) for one in zip(items, codes, rows, strict=True)]
    start, stop = rows[0]
    holes = bench.draw_codes("infill cut", requests, stop - start)
    return [
        np.concatenate([codes_T[:start], hole, codes_T[stop:]])
        for codes_T, hole, (start, stop) in zip(codes, holes, rows, strict=True)
    ]


def request(bench: Bench, item: Item[Captioned], codes_T: Codes, row: tuple[int, int]) -> Request:
    """As the studio asks, behind as many of the neighbors as the context has room for."""
    start, stop = row
    places_T = np.arange(len(codes_T))
    brushed_T = (start <= places_T) & (places_T < stop)
    image = tuple(vocabulary.from_codes(codes_T).tolist())
    uids = [one.uid for one in bench.neighbors(item, NEIGHBORS)]
    room = bench.studio.model.section.context - (stop - start)
    asked = partial(bench.studio.infill_request, image, brushed_T, item.record.caption)
    return asked(prompts.fitting(uids, lambda some: asked(some).prompt, room))


def spliced(codes: Sequence[Codes], rows: Sequence[tuple[int, int]], theirs: Sequence[Codes]) -> list[Codes]:
    """The codes, with another's inside the hole."""
    return [
        np.concatenate([mine[:start], other[start:stop], mine[stop:]])
        for mine, other, (start, stop) in zip(codes, theirs, rows, strict=True)
    ]


def mask(row: tuple[int, int], num_codes: int, side: int) -> Mask:
    """[side, side]: the pixels of those tokens."""
    grid = math.isqrt(num_codes)
    found = np.zeros((side, side), np.bool_)
    found[row[0] // grid * side // grid : row[1] // grid * side // grid] = True
    return found


def nearest(bench: Bench, true: Sequence[Pixels], rows: Sequence[tuple[int, int]]) -> list[int]:
    """Of each picture the place of the training picture with the least error outside of the hole, among those
    that may be changed.
    """
    step = max(1, bench.studio.side // SEARCHED)
    places = bench.known.changeable
    known = np.stack([bench.known.pictures[i][::step, ::step] for i in places]).astype(np.float32)
    found = []
    for picture, row in zip(true, rows, strict=True):
        seen = ~mask(row, bench.studio.num_codes, bench.studio.side)[::step, 0]
        small = picture[::step, ::step].astype(np.float32)
        best = np.square(known[:, seen] - small[seen]).mean(axis=(1, 2, 3)).argmin()
        found.append(int(places[best]))
    return found


def mean_filled(picture: Pixels, hole: Mask) -> Pixels:
    filled_picture = picture.copy()
    filled_picture[hole] = np.rint(picture[~hole].mean(axis=0))
    return filled_picture


def blanked(picture: Pixels, hole: Mask) -> Pixels:
    """What the model is shown of it: grey where it was cut."""
    seen = picture.copy()
    seen[hole] = 128
    return seen
