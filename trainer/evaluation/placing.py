"""Things at given coordinates.

The surprising rule: no model judges. Boxes are found in what was drawn by the same code that found them in
the true picture, so the ceiling is what that code finds behind the tokenizer.

N items, M training examples, P orders of things.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise, permutations

import numpy as np
from numpy.typing import NDArray

from pipeline.colors import Pixels
from trainer.evaluation import again, pictures
from trainer.evaluation.bench import ALONE, Bench, Item, others, picture_of
from trainer.evaluation.judged import CEILING, CHANCE, COPY, MODEL, SHOWN, Judged, Measure, Shown, nothing
from trainer.evaluation.known import Listed, Vectors
from trainer.instruct import scenes
from trainer.instruct.scenes import Box
from trainer.sampler import Request
from trainer.tasks import Grounded, Placed

Drawn = Mapping[str, Sequence[Pixels]]
"""By who drew, in the order of the items."""
MOST_ORDERED = 4
"""Things of which every order is tried: of 4 there are 24, of 10, which published pictures have, 3.6 million.
"""


def placed(bench: Bench) -> Judged:
    items = bench.items(Grounded, changed=True)
    if not items:
        return nothing(
            "Placement at coordinates",
            "no held-out picture has boxes, brought along or made, with licences that let pictures be made "
            "of it now",
        )
    true = [picture_of(item, "image") for item in items]
    trained = [one for one in bench.known.trained(Grounded) if bench.rights.may_derive(one.sources)]
    sizes = [len(item.record.things) for item in items]
    near = nearest_layouts(items, trained) if trained else []
    drawn = {
        MODEL: bench.draw("placement", [Request(prompt=bench.prompt(item)) for item in items]),
        CHANCE: bench.chance(true, sizes, "placement"),
        **({COPY: bench.remembered([one.record.image.uid for one in near])} if near else {}),
        CEILING: bench.through(true),
    }
    wanted = [[one.box for one in item.record.things] for item in items]
    found = {who: [scenes.detect(one) for one in each] for who, each in drawn.items()}
    hits, overlaps, counts = (
        {who: [score(*pair) for pair in zip(wanted, each, strict=True)] for who, each in found.items()}
        for score in (pictures.hit_rate, mean_iou, same_count)
    )
    return Judged(
        title="Placement at coordinates",
        about=(
            "A box counts as hit where something was found in the drawn picture with an IoU of at least 0.5; "
            "things are what is connected on a plain ground. Chance: the true picture of another held-out "
            "prompt with as many things. Copy: the picture of the training prompt with as many things, "
            "nearest by its boxes. Right thing: what is in the box is nearer, by the corpus's encoder, to "
            f"the true thing than to another prompt's. {ALONE}"
        ),
        measures=[
            Measure(name="boxes hit", scores=hits),
            Measure(name="mean IoU", scores=overlaps),
            Measure(name="as many things as asked for", scores=counts),
            Measure(name="right thing in the box", scores=right_things(bench, items, drawn)),
        ],
        tables=[again.duplicates(bench, drawn, task=Grounded, first=[one.record.image.uid for one in near])],
        shown=[
            shown(bench, item, {who: each[i] for who, each in drawn.items()}, near[i].sources if near else ())
            for i, item in enumerate(items[:SHOWN])
        ],
    )


def mean_iou(wanted: Sequence[Box], found: Sequence[Box]) -> float:
    return float(np.mean(pictures.best_ious(wanted, found)))


def same_count(wanted: Sequence[Box], found: Sequence[Box]) -> float:
    return float(len(wanted) == len(found))


def nearest_layouts(
    items: Sequence[Item[Grounded]], trained: Sequence[Listed[Grounded]]
) -> list[Listed[Grounded]]:
    """Of each item the training prompt with as many things whose boxes are nearest, in whatever order; more
    than :data:`MOST_ORDERED` things are matched from left to right by their centres.
    """
    found = []
    boxes = {size: _boxes(trained, size) for size in {len(item.record.things) for item in items}}
    for item in items:
        mine, among = numbers(item.record.things), boxes[len(item.record.things)]
        if not len(among[0]):
            found.append(trained[0])  # none has as many, so none is near
            continue
        orders = np.stack(in_orders(mine))
        away_MP = np.abs(among[1][:, None] - orders[None]).sum(axis=(2, 3))
        found.append(among[0][int(away_MP.min(axis=1).argmin())])
    return found


def _boxes(
    trained: Sequence[Listed[Grounded]], size: int
) -> tuple[list[Listed[Grounded]], NDArray[np.int64]]:
    """Those with so many things, and their boxes [M, size, 4]."""
    mine = [one for one in trained if len(one.record.things) == size]
    boxes = [numbers(one.record.things) for one in mine]
    if size > MOST_ORDERED:
        boxes = [from_left(one) for one in boxes]
    return mine, np.array(boxes).reshape(len(mine), size, 4)


def in_orders(boxes: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Boxes [things, 4] in every order, where they are few; else in one."""
    if len(boxes) > MOST_ORDERED:
        return [from_left(boxes)]
    return [boxes[list(order)] for order in permutations(range(len(boxes)))]


def from_left(boxes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Boxes [things, 4] by their centres, from left to right and downwards."""
    x, y = boxes[:, 0] + boxes[:, 2], boxes[:, 1] + boxes[:, 3]
    return boxes[np.lexsort((y, x))]


def numbers(things: Sequence[Placed]) -> NDArray[np.int64]:
    """[things, 4]"""
    return np.array([[one.box.x0, one.box.y0, one.box.x1, one.box.y1] for one in things], np.int64)


def right_things(bench: Bench, items: Sequence[Item[Grounded]], drawn: Drawn) -> dict[str, list[float]]:
    """Share of an item's boxes whose content is nearer to the true one than to the next item's."""
    true = [parts(picture_of(item, "image"), item.record.things) for item in items]
    sizes = [len(one) for one in true]
    starts = np.cumsum([0, *sizes])
    true_PD = bench.vectors([part for some in true for part in some])
    other_PD = other_things(bench, true_PD)
    scores = {}
    for who, each in drawn.items():
        cut = [part for one, item in zip(each, items, strict=True) for part in parts(one, item.record.things)]
        found_PD = bench.vectors(cut)
        is_right = (found_PD * true_PD).sum(1) > (found_PD * other_PD).sum(1)
        scores[who] = [float(is_right[a:b].mean()) for a, b in pairwise(starts)]
    return scores


def other_things(bench: Bench, true_PD: Vectors) -> Vectors:
    """For each part of the true pictures another one; for the only one, a training picture."""
    rng = bench.rng("other thing")
    if len(true_PD) == 1:
        return bench.known.vectors_ND[rng.integers(len(bench.known.uids), size=1)]
    return true_PD[others(len(true_PD), rng)]


def parts(picture: Pixels, things: Sequence[Placed]) -> list[Pixels]:
    """What is in each box."""
    return [pictures.cropped(picture, one.box) for one in things]


def shown(bench: Bench, item: Item[Grounded], drawn: Mapping[str, Pixels], copied_of: Sequence[str]) -> Shown:
    record = item.record
    boxes = ", ".join(f"{one.name} {one.box.text}" for one in record.things)
    return Shown(
        said={
            "caption": bench.said(record.caption, item.sources),
            "boxes": bench.said(boxes, item.sources),
        },
        pictures={
            MODEL: drawn[MODEL],
            "true": bench.shown(picture_of(item, "image"), item.sources),
            **({COPY: bench.shown(drawn[COPY], copied_of)} if COPY in drawn else {}),
        },
    )
