"""How many of a prompt's constraints a drawn picture meets: the announced prompts, and a generated set."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from pipeline.colors import Pixels
from trainer.evaluation import again, pictures
from trainer.evaluation.bench import Bench, others_alike
from trainer.evaluation.judged import CHANCE, COPY, MODEL, SHOWN, Cell, Judged, Measure, Shown, Table, nothing
from trainer.evaluation.known import Vectors
from trainer.evaluation.prompts import (
    ANNOUNCED,
    MOST_CONSTRAINTS,
    MOST_THINGS,
    Announced,
    Checkable,
    Constraint,
    Things,
    generated,
)
from trainer.instruct import reading, scenes
from trainer.sampler import Request
from trainer.sampling import NEIGHBORS

SAMPLES = 8
RANDOM = 200
"""Random training pictures that tell how often the encoder says yes whatever is drawn."""


def announced(bench: Bench) -> Judged:
    """The four prompts, as they are remembered, with two neighbors, 8 samples each."""
    found = [bench.studio.neighbors(one.prompt, NEIGHBORS) for one in ANNOUNCED]
    requests = [
        Request(prompt=bench.asking(one.prompt, [neighbor.uid for neighbor in near]), samples=SAMPLES)
        for one, near in zip(ANNOUNCED, found, strict=True)
    ]
    drawn = bench.draw("announced", requests)
    samples = [drawn[i * SAMPLES : (i + 1) * SAMPLES] for i in range(len(ANNOUNCED))]
    tops = [bench.studio.picture(near[0].uid) if near else None for near in found]
    some = bench.rng("random").permutation(len(bench.known.uids))[:RANDOM]
    random_ND = bench.vectors([bench.studio.picture(bench.known.uids[i]) for i in some])
    rows = [
        row
        for one, mine, top in zip(ANNOUNCED, samples, tops, strict=True)
        for row in [*met_rows(bench, one, mine, top, random_ND), *read_rows(bench, one, mine)]
    ]
    return Judged(
        title="The prompts that CM3Leon was announced with",
        about=(
            "The prompts are shortened, and were not compared with the words of the announcement. "
            f"{SAMPLES} samples each, behind the {NEIGHBORS} nearest assets. Met: the corpus's encoder "
            f"({bench.studio.library.searcher.encoder.name}) finds the picture nearer to the constraint than "
            "to each of its distractors. It is no person, and at most as good as its own training: read the "
            "share beside that of random training pictures."
        ),
        tables=[
            Table(
                title="Share of samples that meet a constraint",
                head=[
                    "prompt",
                    "constraint",
                    "model",
                    "guessing",
                    "random training pictures",
                    "top neighbor",
                ],
                rows=rows,
            ),
            again.duplicates(bench, {MODEL: drawn}),
        ],
        shown=[
            Shown(
                said={"prompt": one.prompt},
                pictures={
                    **{f"sample {i + 1}": picture for i, picture in enumerate(mine[:SHOWN])},
                    **({} if not near or top is None else {"top neighbor": bench.shown(top, [near[0].uid])}),
                },
            )
            for one, mine, near, top in zip(ANNOUNCED, samples, found, tops, strict=True)
        ],
    )


def met_rows(
    bench: Bench, one: Announced, samples: Sequence[Pixels], top: Pixels | None, random_ND: Vectors
) -> list[list[Cell]]:
    samples_ND = bench.vectors(samples)
    top_1D = None if top is None else bench.vectors([top])
    return [
        [
            one.prompt,
            constraint.wanted,
            met(bench, constraint, samples_ND),
            constraint.chance,
            met(bench, constraint, random_ND),
            None if top_1D is None else met(bench, constraint, top_1D),
        ]
        for constraint in one.constraints
    ]


def met(bench: Bench, constraint: Constraint, drawn_ND: Vectors) -> float:
    """Share of the pictures that are nearer to the constraint's words than to any distractor's."""
    scores = drawn_ND @ bench.texts([constraint.wanted, *constraint.distractors]).T
    return float((scores[:, :1] > scores[:, 1:]).all(axis=1).mean())


def read_rows(bench: Bench, one: Announced, samples: Sequence[Pixels]) -> list[list[Cell]]:
    if one.text is None:
        return []
    if bench.reader is None:
        return [[one.prompt, f"the text {one.text}: not read, {reading.missing()}", None, None, None, None]]
    read = [bench.reader.read(picture) for picture in samples]
    share_right = sum(reading.same(text, one.text) for text in read) / len(read)
    told_read = ", ".join(text or "nothing" for text in read)
    return [[one.prompt, f"the text {one.text}; read: {told_read}", share_right, 0.0, None, None]]


def checked(bench: Bench) -> Judged:
    """The generated set."""
    owners = {bench.known.description(uid): uid for uid in bench.known.uids}
    names = sorted(owners)
    if len(names) < 2:
        return nothing("Checkable constraints", "the training split names fewer than two things")
    prompts = generated(
        names, max(1, bench.num_items // MOST_CONSTRAINTS), bench.rng("constraints"), bench.reader
    )
    drawn = bench.draw("constraints", [Request(prompt=bench.asking(one.text)) for one in prompts])
    near = [bench.studio.neighbors(one.text, 1) for one in prompts]
    copied = bench.through(
        [bench.studio.picture(found[0].uid) if found else np.full_like(drawn[0], 255) for found in near]
    )
    seen, sizes = all_things(bench, drawn), [len(one.checks) for one in prompts]
    by_who = {
        MODEL: seen,
        CHANCE: [seen[i] for i in others_alike(sizes, bench.rng("chance", "constraints"))],
        COPY: all_things(bench, copied),
    }
    vectors = named(bench, prompts)
    results = {
        who: [one.met(things, names_2D) for one, things, names_2D in zip(prompts, each, vectors, strict=True)]
        for who, each in by_who.items()
    }
    measures = [
        measure for size in range(1, MOST_CONSTRAINTS + 1) for measure in of_size(size, prompts, results)
    ]
    return Judged(
        title="Checkable constraints",
        about=(
            "Prompts with one to five constraints that pixels can check: how many things, the color of one, "
            "left and right, the ground's color, the text of a sign. Which thing stands left or right is "
            "told by its color, or by the corpus's encoder. Chance: the picture that the model drew for "
            "another prompt with as many. Copy: the top neighbor of the prompt."
        ),
        measures=[share(results), *measures],
        tables=[by_kind(prompts, results), again.duplicates(bench, {MODEL: drawn, COPY: copied})],
        shown=[
            Shown(
                said={
                    "prompt": bench.said(one.text, [owners[name] for name in one.names]),
                    "met": told(one, results[MODEL][i]),
                },
                pictures={
                    MODEL: drawn[i],
                    **({COPY: bench.shown(copied[i], [near[i][0].uid])} if near[i] else {}),
                },
            )
            for i, one in enumerate(prompts)
            if i % max(1, len(prompts) // SHOWN) == 0
        ][:SHOWN],
    )


def all_things(bench: Bench, drawn: Sequence[Pixels]) -> list[Things]:
    """Of each picture; all that the encoder is to see, it sees at once."""
    boxes = [scenes.detect(picture) for picture in drawn]
    starts = np.cumsum([0, *(len(one[:MOST_THINGS]) for one in boxes)])
    crops = [
        pictures.cropped(picture, box)
        for picture, some in zip(drawn, boxes, strict=True)
        for box in some[:MOST_THINGS]
    ]
    vectors_KD = bench.vectors(crops)
    return [
        Things(picture=picture, boxes=some, vectors_KD=vectors_KD[start:stop])
        for picture, some, (start, stop) in zip(drawn, boxes, pairwise(starts), strict=True)
    ]


def named(bench: Bench, prompts: Sequence[Checkable]) -> list[Vectors]:
    """Of each prompt's names [2, D]; of a sign's none."""
    names = sorted({name for one in prompts for name in one.names})
    vectors = dict(zip(names, bench.texts(names), strict=True)) if names else {}
    return [np.array([vectors[name] for name in one.names], np.float32) for one in prompts]


Results = dict[str, list[list[bool]]]
"""By who drew, of each prompt whether each constraint was met."""


def share(results: Results) -> Measure:
    return Measure(
        name=f"share of constraints met, 1 to {MOST_CONSTRAINTS} a prompt",
        scores={who: [float(np.mean(one)) for one in each] for who, each in results.items()},
    )


def of_size(size: int, prompts: Sequence[Checkable], results: Results) -> list[Measure]:
    mine = [i for i, one in enumerate(prompts) if len(one.checks) == size]
    return [
        Measure(
            name=f"{size} constraint{'s' * (size > 1)}, {name}",
            scores={who: [float(of(each[i])) for i in mine] for who, each in results.items()},
        )
        for name, of in (("share met", np.mean), ("all met", all))
    ]


def by_kind(prompts: Sequence[Checkable], results: Results) -> Table:
    kinds = [check.kind for one in prompts for check in one.checks]
    flat = {who: [hit for each in found for hit in each] for who, found in results.items()}
    rows: list[list[Cell]] = [
        [
            kind,
            kinds.count(kind),
            *(
                sum(hit for hit, one in zip(hits, kinds, strict=True) if one == kind) / kinds.count(kind)
                for hits in flat.values()
            ),
        ]
        for kind in dict.fromkeys(kinds)
    ]
    return Table(title="Share met by kind of constraint", head=["constraint", "asked", *flat], rows=rows)


def told(one: Checkable, hits: Sequence[bool]) -> str:
    return ", ".join(
        f"{check.kind} {'yes' if hit else 'no'}" for check, hit in zip(one.checks, hits, strict=True)
    )
