"""Scores of pictures drawn from held-out captions, behind 0, 1 and 2 neighbors; always beside whoever copies.

The surprising rule: neighbors come from the training split, so a Fréchet distance may be good because they
are. Hence the distance of the copied top neighbors stands beside it, and the share of drawn pictures that are
a training picture again.

N prompts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from pipeline.searching.library import Found
from pipeline.tokenizer import evaluating
from pipeline.tokenizer.evaluating import FD, FID
from pipeline.tokenizer.reconstructing import Network
from tokenizer_service.frechet import Moments, distance
from trainer.evaluation import again
from trainer.evaluation.bench import Bench, Item, batches, picture_of
from trainer.evaluation.judged import (
    CEILING,
    CHANCE,
    COPY,
    MODEL,
    SHOWN,
    Cell,
    Judged,
    Measure,
    Shown,
    Table,
    nothing,
)
from trainer.sampler import Request
from trainer.studio import Pixels
from trainer.tasks import Captioned

MOST_NEIGHBORS = 2


def scored(bench: Bench, *, inception: Path | None = None) -> Judged:
    """``inception``: weights of FID's Inception; without them there is no FID."""
    items = bench.items(Captioned, lambda record: record.wording == 0)
    if len(items) < 2 or not bench.known.uids:
        return nothing(
            "Pictures from captions",
            "fewer than two held-out pictures have captions, or none of training may be used",
        )
    near = [bench.neighbors(item, MOST_NEIGHBORS) for item in items]
    drawn = {f"{k} neighbors": behind(bench, items, near, k) for k in range(MOST_NEIGHBORS + 1)}
    true = [picture_of(item, "image") for item in items]
    random = bench.rng("chance", "pictures").integers(len(bench.known.uids), size=len(items))
    chance = bench.through([bench.known.pictures[i] for i in random])
    copied = bench.through([bench.studio.picture(one[0].uid) if one else white(true) for one in near])
    baselines = {CHANCE: chance, COPY: copied, CEILING: bench.through(true), "true, as they are": true}
    network = evaluating.load_inception(inception)
    return Judged(
        title="Pictures from captions",
        about=(
            f"Drawn for {len(items)} held-out captions. FD-EffNet is a Fréchet distance of EfficientNet-Lite0"
            " and no FID; FID needs Inception's weights (--inception). Of fewer pictures than features both "
            "come out too large: compare them here, at one number. Encoder score: cosine of the picture and "
            f"the caption by {bench.studio.library.searcher.encoder.name}. Chance: random training pictures. "
            "Copy: the top neighbor. Ceiling: the true pictures behind the tokenizer. Near-duplicate: the "
            "same as a training picture, as the pipeline's dedup judges it."
        ),
        measures=encoder_measures(bench, items, drawn, baselines),
        tables=[
            distances(drawn | baselines, true, evaluating.networks(network)),
            again.duplicates(bench, drawn | baselines),
        ],
        shown=[
            Shown(
                said={"caption": bench.said(item.record.caption, item.sources)},
                pictures={
                    **{name: each[i] for name, each in drawn.items()},
                    "true": bench.shown(true[i], item.sources),
                    **({COPY: bench.shown(copied[i], [near[i][0].uid])} if near[i] else {}),
                },
            )
            for i, item in enumerate(items[:SHOWN])
        ],
    )


def behind(
    bench: Bench, items: Sequence[Item[Captioned]], near: Sequence[Sequence[Found]], k: int
) -> list[Pixels]:
    """Drawn with ``k`` neighbors in front, fewer where there are not so many or the context has no room."""
    requests = [
        Request(prompt=bench.asking(item.record.caption, [one.uid for one in found[:k]]))
        for item, found in zip(items, near, strict=True)
    ]
    return bench.draw(f"pictures {k}", requests)


def white(like: Sequence[Pixels]) -> Pixels:
    return np.full_like(like[0], 255)


def encoder_measures(
    bench: Bench,
    items: Sequence[Item[Captioned]],
    drawn: Mapping[str, Sequence[Pixels]],
    baselines: Mapping[str, Sequence[Pixels]],
) -> list[Measure]:
    texts_ND = bench.texts([item.record.caption for item in items])

    def cosines(each: Sequence[Pixels]) -> list[float]:
        return [float(one) for one in (bench.vectors(each) * texts_ND).sum(axis=1)]

    beside = {who: cosines(each) for who, each in baselines.items()}
    return [
        Measure(name=f"encoder score, {name}", scores={MODEL: cosines(each), **beside})
        for name, each in drawn.items()
    ]


def distances(
    rows: Mapping[str, Sequence[Pixels]], true: Sequence[Pixels], networks: Mapping[str, Network]
) -> Table:
    names = {FD: "FD-EffNet", FID: "FID"}
    real = {name: moments(true, see) for name, see in networks.items()}
    cells: list[list[Cell]] = [
        [
            who,
            len(each),
            *(
                distance(moments(each, networks[name]), real[name]) if name in networks else None
                for name in names
            ),
        ]
        for who, each in rows.items()
    ]
    return Table(
        title="Fréchet distance to the true pictures", head=["", "pictures", *names.values()], rows=cells
    )


def moments(each: Sequence[Pixels], see: Network) -> Moments:
    return Moments.of(np.concatenate([see(np.stack(batch)) for batch in batches(each)]))
