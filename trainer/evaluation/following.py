"""Pictures along the lines of a map.

The surprising rule: no model judges. A map is made of what was drawn by the same code that made it of the
true picture, so the ceiling is what that code finds behind the tokenizer.

N items, M training pictures.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pipeline.colors import Pixels
from tokenizer_service.metrics import PEAK
from trainer.evaluation import again, known, pictures
from trainer.evaluation.bench import Bench, Item, picture_of
from trainer.evaluation.judged import CEILING, CHANCE, COPY, MODEL, SHOWN, Judged, Measure, Shown, nothing
from trainer.instruct import maps
from trainer.instruct.world import DERIVED
from trainer.sampler import Request
from trainer.tasks import Controlled, Kind, Picture

Drawn = Mapping[str, Sequence[Pixels]]
"""By who drew, in the order of the items."""
JUDGED_KIND: Kind = "canny edge"
OTHER_SHARE = 4
"""Of kinds that are not the one judged by, a quarter of the items each."""
OTHER_SHOWN = 2
OF_GROUND = frozenset({"depth", "normals"})
"""Kinds that need a plain ground."""
MOST_MAPS = 300
"""Training pictures among which a copy is looked for by another kind: a segmentation takes 0.2 s."""


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
        pages += [
            shown(bench, item, {who: each[i] for who, each in drawn.items()}, near[i])
            for i, item in enumerate(items[: SHOWN if kind == JUDGED_KIND else OTHER_SHOWN])
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
    """Each held-out picture that has a map of any kind and of which one may be made, with its edges: few maps
    are of them.
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


def shown(bench: Bench, item: Item[Controlled], drawn: Mapping[str, Pixels], copied: str) -> Shown:
    """What follows a map shows as much as the map does."""
    record, sources = item.record, item.sources
    return Shown(
        said={"caption": bench.said(record.caption, sources), "map": record.kind},
        pictures={
            "given": bench.shown(picture_of(item, "map"), sources),
            MODEL: bench.shown(drawn[MODEL], sources),
            "true": bench.shown(picture_of(item, "image"), sources),
            COPY: bench.shown(drawn[COPY], [copied]),
        },
    )
