"""Tasks that say what the picture is to look like: things at coordinates, maps to follow.

The surprising rule: no model judges. Boxes and edges are found in what was drawn by the same code that found
them in the true picture, so the ceiling is what that code finds behind the tokenizer.

N items, M training examples, P orders of things.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise, permutations

import numpy as np
from numpy.typing import NDArray

from pipeline.colors import Pixels
from tokenizer_service.metrics import PEAK
from trainer.evaluation import again, known, pictures
from trainer.evaluation.bench import ALONE, Bench, Item, others, picture_of
from trainer.evaluation.judged import CEILING, CHANCE, COPY, MODEL, SHOWN, Judged, Measure, Shown, nothing
from trainer.evaluation.known import Listed, Vectors
from trainer.instruct import maps, scenes
from trainer.instruct.scenes import Box
from trainer.instruct.world import DERIVED
from trainer.sampler import Request
from trainer.tasks import Controlled, Grounded, Kind, Picture, Placed

Drawn = Mapping[str, Sequence[Pixels]]
"""By who drew, in the order of the items."""
Sources = Mapping[str, Sequence[Sequence[str]]]
"""Of what the pictures were made."""
JUDGED_KIND: Kind = "canny edge"
OTHER_SHARE = 4
MOST_ORDERED = 4
"""Things of which every order is tried: of 4 there are 24, of 10, which published pictures have, 3.6 million.
"""
OF_GROUND = frozenset({"depth", "normals"})
"""Kinds that need a plain ground."""
MOST_MAPS = 300
"""Training pictures among which a copy is looked for by another kind: a segmentation takes 0.2 s."""


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
        shown=shown(bench, items, drawn, {COPY: [one.sources for one in near]}),
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


def controlled(bench: Bench) -> Judged:
    groups: dict[str, list[Item[Controlled]]] = {JUDGED_KIND: edged(bench)}
    for kind in (*sorted(set(maps.MAPS) - {JUDGED_KIND}), *delivered_kinds(bench)):
        groups[kind] = bench.items(Controlled, functools.partial(is_of, kind), OTHER_SHARE, changed=True)
    groups = {kind: items for kind, items in groups.items() if items}
    if not groups or not len(bench.known.changeable):
        return nothing(
            "Edges and other maps to pictures",
            "no held-out picture that may be changed now has a map, or none of training may be changed",
        )
    measures: list[Measure] = []
    pages: list[Shown] = []
    everything: dict[str, list[Pixels]] = {}
    for kind, items in groups.items():
        drawn, near = followed(bench, kind, items)
        measures += map_measures(kind, items, drawn)
        for who, each in drawn.items():
            everything.setdefault(who, []).extend(each)
        pages += shown(bench, items, drawn, {COPY: [[uid] for uid in near]})[
            : SHOWN if kind == JUDGED_KIND else 2
        ]
    return Judged(
        title="Edges and other maps to pictures",
        about=(
            "The map of what was drawn against the map given: F1 of edges within 2 pixels of the grid of 256 "
            "(at least 1) for canny edge, by which the task is judged; 1 - mean difference for the others. "
            "Chance: a random training picture. Copy: the training picture whose map is nearest to the one "
            f"given, by that very score; of the other kinds among {MOST_MAPS}. Ceiling: "
            "the true picture behind the tokenizer. Kinds that are only brought along, as poses, are found "
            "in no drawn picture here: they are judged by the PSNR to the true picture alone, and a copy is "
            "looked for by the maps that came along."
        ),
        measures=measures,
        tables=[again.duplicates(bench, everything)],
        shown=pages,
    )


def delivered_kinds(bench: Bench) -> list[str]:
    """Kinds of held-out maps that we cannot make."""
    held_out = known.of_kind(bench.known.held_out, Controlled)
    return sorted({one.record.kind for one in held_out} - set(maps.MAPS))


def is_of(kind: str | None, record: Controlled) -> bool:
    """Of an asset's own picture: among those a copy is looked for."""
    return kind in (None, record.kind) and not record.image.uid.startswith(DERIVED)


def edged(bench: Bench) -> list[Item[Controlled]]:
    """Each held-out picture that has a map of any kind and of which one may be made, with its edges: one map
    in seven is of them.
    """
    found: dict[str, Item[Controlled]] = {}
    for item in bench.items(Controlled, functools.partial(is_of, None), changed=True):
        name = f"map {JUDGED_KIND} of {item.record.image.uid}"
        record = replace(item.record, kind=JUDGED_KIND, map=Picture(name))
        picture = picture_of(item, "image")
        shown_ = {item.record.image.uid: picture, name: mapped(JUDGED_KIND, picture)}
        found.setdefault(
            item.record.image.uid,
            Item(name=item.name, record=record, sources=item.sources, pictures=shown_),
        )
    return list(found.values())[: bench.num_items]


def followed(bench: Bench, kind: str, items: Sequence[Item[Controlled]]) -> tuple[Drawn, list[str]]:
    """What was drawn along the maps, and the training pictures whose maps are nearest."""
    map_of = {
        one.record.image.uid: one.record.map.uid
        for one in bench.known.trained(Controlled)
        if one.record.kind == kind
    }
    uids = [bench.known.uids[i] for i in bench.known.changeable]
    uids = [uid for uid in uids if uid in map_of] or uids
    uids = uids if kind == JUDGED_KIND else uids[:MOST_MAPS]
    pixels = [bench.studio.picture(uid) for uid in uids]
    if kind in maps.MAPS:
        theirs = all_mapped(bench, kind, pixels)
    else:  # brought along; where none is of training, the picture itself stands for its map
        theirs = [bench.studio.picture(map_of.get(uid, uid)) for uid in uids]
    given = np.stack([picture_of(item, "map") for item in items])
    best = scores_of(kind)(given, np.stack(theirs)).argmax(axis=1)
    random = bench.rng("chance", kind).integers(len(uids), size=len(items))
    drawn = {
        MODEL: bench.draw(kind, [Request(prompt=bench.prompt(item)) for item in items]),
        CHANCE: bench.through([pixels[i] for i in random]),
        COPY: bench.through([pixels[i] for i in best]),
        CEILING: bench.through([picture_of(item, "image") for item in items]),
    }
    return drawn, [uids[i] for i in best]


def all_mapped(bench: Bench, kind: str, pixels: Sequence[Pixels]) -> list[Pixels]:
    found = []
    with bench.log.bar("maps", total=len(pixels), unit="pictures") as bar:
        for one in pixels:
            found.append(mapped(kind, one))
            bar.advance(1)
    return found


def mapped(kind: str, picture: Pixels) -> Pixels:
    """The map of a picture; black where it has none."""
    seen = pictures.flattened(picture) if kind in OF_GROUND else picture
    found = maps.MAPS[kind](seen)
    return np.zeros_like(picture) if found is None else found


def scores_of(kind: str) -> Callable[[Pixels, Pixels], NDArray[np.float64]]:
    """Of every map given against every other [N, M]."""
    return pictures.edge_f1_each if kind == JUDGED_KIND else likeness_each


def likeness_each(some: Pixels, others_: Pixels) -> NDArray[np.float64]:
    """[N, M]"""
    rows = others_.astype(np.int16)
    return np.array([1 - np.abs(rows - one).mean(axis=(1, 2, 3)) / PEAK for one in some.astype(np.int16)])


def map_measures(kind: str, items: Sequence[Item[Controlled]], drawn: Drawn) -> list[Measure]:
    score = pictures.edge_f1 if kind == JUDGED_KIND else pictures.likeness
    told = "F1 of edges" if kind == JUDGED_KIND else "likeness of maps"
    given = [picture_of(item, "map") for item in items]
    true = [picture_of(item, "image") for item in items]
    errors = {
        who: [pictures.psnr(a, b) for a, b in zip(true, each, strict=True)] for who, each in drawn.items()
    }
    error = Measure(name=f"{kind}, PSNR to the true picture in dB", scores=errors)
    if kind not in maps.MAPS:
        return [error]
    followed_ = {
        who: [score(mapped(kind, one), a_map) for one, a_map in zip(each, given, strict=True)]
        for who, each in drawn.items()
    }
    return [Measure(name=f"{kind}, {told}", scores=followed_), error]


def shown(
    bench: Bench, items: Sequence[Item[Grounded] | Item[Controlled]], drawn: Drawn, theirs: Sources
) -> list[Shown]:
    """The first items, in order."""
    found = []
    for i, item in enumerate(items[:SHOWN]):
        record = item.record
        given = (
            {"given": bench.shown(picture_of(item, "map"), item.sources)}
            if isinstance(record, Controlled)
            else {}
        )
        asked = (
            {"map": record.kind}
            if isinstance(record, Controlled)
            else {"boxes": boxes_of(bench, record, item.sources)}
        )
        # What follows a map shows as much as the map does.
        model = drawn[MODEL][i]
        found.append(
            Shown(
                said={"caption": bench.said(record.caption, item.sources), **asked},
                pictures={
                    **given,
                    MODEL: bench.shown(model, item.sources) if given else model,
                    "true": bench.shown(picture_of(item, "image"), item.sources),
                    **({COPY: bench.shown(drawn[COPY][i], theirs[COPY][i])} if COPY in drawn else {}),
                },
            )
        )
    return found


def boxes_of(bench: Bench, record: Grounded, sources: Sequence[str]) -> str | None:
    return bench.said(", ".join(f"{one.name} {one.box.text}" for one in record.things), sources)
