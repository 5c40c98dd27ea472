"""Who made the pictures: assets each, how concentrated they are, and what of the packs is theirs."""

from __future__ import annotations

import collections
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from infra.corpus import Corpus, Version
from pipeline import packs, schema
from pipeline.card import spread
from pipeline.card.figures import LEAST, Figure, of_whole, told
from pipeline.card.parts import Part
from pipeline.card.rights import grouped
from pipeline.examples import CONTRIBUTORS
from pipeline.split import TRAIN

LISTED = 20


@dataclass(slots=True)
class Contributors:
    """Kept assets of each, over the shards seen so far; an id is of its provider."""

    assets: collections.Counter[str] = field(default_factory=collections.Counter)

    def add(self, part: Part) -> None:
        mask = part.kept_rows()
        providers = part.providers.filter(part.kept)
        ids = mask[schema.CONTRIBUTOR.name].combine_chunks()
        for provider, contributor, rows in grouped([providers, ids]):
            self.assets[f"{provider}:{contributor}"] += rows

    def figures(self, step: str, corpus: Corpus, version: Version) -> list[Figure]:
        amounts = np.array(list(self.assets.values()), np.int64)
        total = int(amounts.sum())
        counted = "rows whose outcome is kept, by provider (before the colon of uid) and contributor"
        rows = "rows.parquet"
        found = [
            Figure(
                name="contributors.spread",
                title="How many there are, and how much the first have",
                step=step,
                file=rows,
                counted=f"{counted}; Gini over those with at least one",
                values={
                    "contributors": len(amounts),
                    "assets": total,
                    "gini": spread.gini(amounts),
                    "top_10_share": spread.top(amounts, 10),
                    "largest_share": None
                    if told(int(amounts.max(initial=0))) is None
                    else spread.top(amounts, 1),
                    "lorenz": spread.lorenz(amounts),
                },
            ),
            Figure(
                name="contributors.sizes",
                title="Contributors by how many assets they have",
                step=step,
                file=rows,
                counted=f"{counted}; contributors by the power of two of that number",
                values=sizes(amounts),
            ),
            Figure(
                name="contributors.largest",
                title="The largest",
                step=step,
                file=rows,
                counted=f"{counted}; the {LISTED} largest that have at least {LEAST}",
                values=[
                    {"contributor": name, "assets": count, "share": count / total}
                    for name, count in sorted(self.assets.items(), key=lambda one: (-one[1], one[0]))[:LISTED]
                    if told(count)
                ],
            ),
        ]
        if packs.STEP in version.artifacts:
            amounts_of = packs.by_contributor(corpus.store, packs.slots(corpus, version, TRAIN))
            tokens = np.array([one["tokens"] for one in amounts_of.values()], np.int64)
            found.append(
                Figure(
                    name="contributors.tokens",
                    title="Tokens of the training packs",
                    step=packs.STEP,
                    file=CONTRIBUTORS,
                    counted="contributors of the packs for training: tokens and pairs of each, as "
                    f"target or as neighbor; the {LISTED} with most, of those with at least {LEAST} assets",
                    values={
                        "tokens": int(tokens.sum()),
                        "gini": spread.gini(tokens),
                        "top_10_share": spread.top(tokens, 10),
                        "largest": [
                            {"contributor": name, **one}
                            for name, one in list(amounts_of.items())[:LISTED]
                            if told(self.assets[name])
                        ],
                    },
                )
            )
        return found


def sizes(amounts: spread.Ints) -> list[dict[str, Any]]:
    """How many have 1, 2 to 3, 4 to 7, and so on, where these are not few."""
    rows = spread.octaves(amounts)
    counts = of_whole({str(row["from"]): row["count"] for row in rows})
    return [{**row, "count": counts[str(row["from"])]} for row in rows]
