"""Filling in a part of a picture that is missing.

The surprising rule: baselines are spliced into the true codes and drawn with them, so that a seam costs all
alike.

T codes of a picture, left to right and downwards.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from pipeline.colors import Pixels
from tokenizer_service import vocabulary
from trainer import prompts
from trainer.evaluation import pictures
from trainer.evaluation.bench import Bench, Item, picture_of
from trainer.evaluation.judged import CEILING, CHANCE, COPY, MODEL, SHOWN, Judged, Measure, Shown, nothing
from trainer.evaluation.known import Codes
from trainer.instruct.scenes import Mask
from trainer.prompts import Hole
from trainer.sampler import DRAWN, Request
from trainer.tasks import Captioned

SEARCHED = 32
"""Pixels a side at which the nearest training picture is looked for."""


def filled(bench: Bench) -> Judged:
    items = bench.items(Captioned, lambda record: record.wording == 0)
    if not items or not bench.known.uids:
        return nothing("Infill", "no held-out picture has a caption to stand beside it")
    true = [picture_of(item, "image") for item in items]
    codes = list(bench.studio.codes(true))
    rows = [cut(item.name, bench.studio.num_codes) for item in items]
    near = nearest(bench, true, rows)
    rng = bench.rng("chance", "infill")
    random = bench.known.codes_NT[rng.integers(len(bench.known.uids), size=len(items))]
    beside = {
        CHANCE: bench.decoded(spliced(codes, rows, list(random))),
        COPY: bench.decoded(spliced(codes, rows, [bench.known.codes_NT[i] for i in near])),
        CEILING: bench.decoded(codes),
    }
    masks = [mask(one, bench.studio.num_codes, bench.studio.side) for one in rows]
    painted = [mean_filled(one, hole) for one, hole in zip(true, masks, strict=True)]
    ways = {
        "left to right": bench.decoded(continued(bench, items, codes, rows)),
        "cut and asked for behind the end": bench.decoded(infilled(bench, items, codes, rows)),
    }

    def errors(each: Sequence[Pixels]) -> list[float]:
        return [pictures.psnr(a, b, hole) for a, b, hole in zip(true, each, masks, strict=True)]

    others_ = {who: errors(each) for who, each in [*beside.items(), ("mean color of the rest", painted)]}
    drawn = {MODEL: ways["left to right"], **beside}
    return Judged(
        title="Infill",
        about=(
            "A quarter of the rows of tokens is missing; PSNR of that region against the true picture, in dB."
            " Left to right: what is above it and the caption are seen, as in the playground. Cut: all "
            "around is seen, as the CM3 objective cuts; a run trained on whole cuts alone never saw that. "
            "Chance: the region of a random training picture. Copy: of the training picture most like what "
            "is left. Ceiling: the true codes."
        ),
        measures=[
            Measure(name=f"PSNR of the region in dB, {way}", scores={MODEL: errors(each), **others_})
            for way, each in ways.items()
        ],
        shown=[
            Shown(
                said={"caption": item.record.caption},
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
    """All codes, with the model's in the hole. No guidance: its other stream has no picture to go on with."""
    requests = []
    for item, codes_T, (start, stop) in zip(items, codes, rows, strict=True):
        image = tuple(vocabulary.from_codes(codes_T).tolist())
        caption = bench.studio.words(item.record.caption)
        requests.append(Request(prompt=prompts.infill([caption, image], Hole(1, start, stop))))
    start, stop = rows[0]
    plain = bench.section.model_copy(update={"guidance": 1.0, "method": "top_p"})
    holes = bench.draw_codes("infill cut", requests, stop - start, plain)
    return [
        np.concatenate([codes_T[:start], hole, codes_T[stop:]])
        for codes_T, hole, (start, stop) in zip(codes, holes, rows, strict=True)
    ]


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
    """Of each picture the training picture with the least error outside of the hole."""
    step = max(1, bench.studio.side // SEARCHED)
    known = np.stack([one[::step, ::step] for one in bench.known.pictures]).astype(np.float32)
    found = []
    for picture, row in zip(true, rows, strict=True):
        seen = ~mask(row, bench.studio.num_codes, bench.studio.side)[::step, 0]
        small = picture[::step, ::step].astype(np.float32)
        found.append(int(np.square(known[:, seen] - small[seen]).mean(axis=(1, 2, 3)).argmin()))
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
