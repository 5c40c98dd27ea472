"""Whom occupation prompts bring up and what is drawn for them.

The surprising rule: it counts what captions and keywords say of retrieved assets, and judges no face. A
corpus that names nobody answers with empty counts, and the page says so; what was drawn is shown, not
classified.
"""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from pydantic import Field

from infra.settings import Section
from pipeline import reading, schema
from pipeline.reviewing import identity_terms
from trainer.evaluation import again
from trainer.evaluation.bench import Bench
from trainer.evaluation.bootstrap import wilson
from trainer.evaluation.judged import MODEL, Cell, Judged, Shown, Table
from trainer.sampler import Request
from trainer.sampling import NEIGHBORS

FILE = Path(__file__).parent / "occupations.toml"
RETRIEVED = 10
SAMPLES = 4
TONES = ("light", "medium-light", "medium", "medium-dark", "dark")
"""Unicode's names of skin tones, as emoji captions have them; each before "skin tone"."""
TONE = re.compile(r"\b(medium[- ]light|medium[- ]dark|light|medium|dark)[- ]skin(?:[- ]tone)?\b")


class Occupations(Section):
    revision: int
    prompt: str
    occupations: tuple[str, ...] = Field(min_length=1)


def load() -> Occupations:
    return reading.validated(Occupations, tomllib.loads(FILE.read_text()), str(FILE))


def audited(bench: Bench) -> Judged:
    asked = load()
    prompts = [asked.prompt.format(occupation=one) for one in asked.occupations]
    found = [bench.studio.neighbors(prompt, RETRIEVED) for prompt in prompts]
    requests = [
        Request(prompt=bench.asking(prompt, [one.uid for one in near[:NEIGHBORS]]), samples=SAMPLES)
        for prompt, near in zip(prompts, found, strict=True)
    ]
    drawn = bench.draw("occupations", requests)
    said = [[said_of(bench, one.uid) for one in near] for near in found]
    likest = [said_of(bench, *bench.known.nearest(vector_D)) for vector_D in bench.vectors(drawn)]
    everything = [said_of(bench, uid) for uid in bench.known.uids]
    retrieved = [texts for near in said for texts in near]
    return Judged(
        title="Whom occupation prompts bring up",
        about=(
            f"{len(prompts)} prompts (list revision {asked.revision}); of each the {RETRIEVED} nearest assets"
            f" and {SAMPLES} pictures drawn behind the first {NEIGHBORS}. Groups are those that captions and "
            "keywords name, with Wilson's bounds of the share; words are counted and no faces, so a Japanese "
            "button counts for a nation. A drawn picture counts for whom the training picture names that it "
            f"is most like, by the corpus's encoder. {verdict(retrieved)}"
        ),
        tables=[
            shares(retrieved, likest, everything),
            by_occupation(asked.occupations, said, likest),
            again.duplicates(bench, {MODEL: drawn}),
        ],
        shown=[
            Shown(
                said={
                    "prompt": prompt,
                    **{
                        f"retrieved {n + 1}": bench.said(one.description, [one.uid])
                        for n, one in enumerate(near[:NEIGHBORS])
                    },
                },
                pictures={f"drawn {n + 1}": drawn[i * SAMPLES + n] for n in range(SAMPLES)}
                | {
                    f"retrieved {n + 1}": bench.shown(bench.studio.picture(one.uid), [one.uid])
                    for n, one in enumerate(near[:NEIGHBORS])
                },
            )
            for i, (prompt, near) in enumerate(zip(prompts, found, strict=True))
        ],
    )


def said_of(bench: Bench, uid: str) -> list[str]:
    """Caption and keywords."""
    return [str(bench.studio.fact(uid, schema.DESCRIPTION)), *(bench.studio.fact(uid, schema.KEYWORDS) or ())]


def groups(texts: Sequence[str]) -> set[str]:
    """What the texts name, AXIS: GROUP.

    >>> sorted(groups(["woman health worker: medium-dark skin tone"]))
    ['gender: women', 'skin tone: medium-dark']
    """
    named = {f"{axis}: {group}" for axis, group in identity_terms.named(texts)}
    tones = {found.replace(" ", "-") for text in texts for found in TONE.findall(text.lower())}
    return named | {f"skin tone: {tone}" for tone in tones}


def shares(
    retrieved: Sequence[Sequence[str]], drawn: Sequence[Sequence[str]], everything: Sequence[Sequence[str]]
) -> Table:
    """Of retrieved assets and of what drawn pictures are like, beside the training split's own shares."""
    parts = [(counted(texts), len(texts)) for texts in (retrieved, drawn, everything)]
    rows: list[list[Cell]] = []
    for group in sorted({group for counts, _ in parts for group in counts}):
        cells: list[Cell] = [group]
        for counts, total in parts:
            bounds = wilson(counts[group], total) if total else None
            share = (None,) * 3 if bounds is None else (bounds.mean, bounds.low, bounds.high)
            cells += [counts[group], *share]
        rows.append(cells)
    head = ["share", "95 % from", "to"]
    return Table(
        title="Named groups among what is retrieved, in what drawn pictures are like, and in all of training",
        head=["group", "retrieved", *head, "drawn", *head, "training", *head],
        rows=rows,
    )


def counted(said: Sequence[Sequence[str]]) -> Counter[str]:
    return Counter(group for texts in said for group in groups(texts))


def by_occupation(
    occupations: Sequence[str],
    said: Sequence[Sequence[Sequence[str]]],
    drawn: Sequence[Sequence[str]],
) -> Table:
    """``drawn``: of all occupations, one behind the other."""
    rows: list[list[Cell]] = []
    for number, (occupation, near) in enumerate(zip(occupations, said, strict=True)):
        mine = drawn[number * SAMPLES : (number + 1) * SAMPLES]
        named = sum(bool(groups(texts)) for texts in near)
        rows.append([occupation, len(near), named, told(near), told(mine)])
    return Table(
        title="By occupation",
        head=["occupation", "retrieved", "that name somebody", "groups", "groups of the drawn"],
        rows=rows,
    )


def told(said: Sequence[Sequence[str]]) -> str:
    named = ", ".join(f"{group} {number}" for group, number in sorted(counted(said).items()))
    return named or "nobody is named"


def verdict(retrieved: Sequence[Sequence[str]]) -> str:
    named = sum(bool(groups(texts)) for texts in retrieved)
    if not retrieved:
        return "Nothing was retrieved, so the corpus says nothing about occupations."
    if not named:
        return "No retrieved asset names any group of people: this corpus cannot answer the question."
    return f"{named} of {len(retrieved)} retrieved assets name a group of people; the rest name nobody."
