"""What somebody should look at: terms of the safety list, personal data by form, duplicates, look-alikes.

Counts alone: neither a caption nor what was found in it is told.
"""

from __future__ import annotations

import collections
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from infra.corpus import Corpus, Version
from pipeline import schema
from pipeline.card.figures import Figure, of_reasons, share, told
from pipeline.card.matching import Ints
from pipeline.card.parts import Part, flat
from pipeline.card.rights import grouped
from pipeline.card.termlists import Label
from pipeline.filtering import personal, pii

MAY_BE_PERSONAL = r"[\pN@]|[^\x00-\x7F]"
"""Whatever ``pii`` finds has a digit or an @ of some script: the rest is not looked through."""
RESEMBLES = "resembles_revoked"


@dataclass(slots=True)
class Safety:
    """Counts over the kept rows of the shards seen so far."""

    labels: tuple[Label, ...]
    total: int = 0
    found: Ints = field(init=False)
    personal: collections.Counter[str] = field(default_factory=collections.Counter)
    """Rows by kind of personal data."""
    any_label: int = 0
    any_personal: int = 0
    taken_for_it: collections.Counter[str] = field(default_factory=collections.Counter)
    """Rows that were settled for personal data, or for likeness to what was taken back."""

    def __post_init__(self) -> None:
        self.found = np.zeros(len(self.labels), np.int64)

    def add(self, part: Part) -> None:
        kept = part.found.of(part.kept)
        self.total += int(part.kept.sum())
        self.found += kept.counts(len(self.labels))
        is_safety = np.array([label.kind == "safety" for label in self.labels])
        self.any_label += len(set(kept.rows[is_safety[kept.labels]].tolist()))
        for code, rows in grouped([part.codes]):
            if code.startswith(("pii", RESEMBLES)):
                self.taken_for_it[code] += rows
        words = part.kept_told().select([schema.DESCRIPTION.name, schema.KEYWORDS.name])
        may = pc.match_substring_regex(flat(words[schema.DESCRIPTION.name]), MAY_BE_PERSONAL)
        lists = flat(words[schema.KEYWORDS.name])
        hits = pc.match_substring_regex(pc.list_flatten(lists), MAY_BE_PERSONAL)
        mask = np.asarray(may, np.bool_)
        mask[np.asarray(pc.list_parent_indices(lists).filter(hits), np.int64)] = True
        found = personal.findings(words.filter(pa.array(mask)))
        every = np.array([np.asarray(column) > 0 for column in found.values()])
        self.any_personal += int(every.any(axis=0).sum())
        self.personal.update({kind: int((np.asarray(column) > 0).sum()) for kind, column in found.items()})

    def figures(self, step: str, corpus: Corpus, version: Version) -> list[Figure]:
        kept = "rows whose outcome is kept"
        found = [
            Figure(
                name="safety.terms",
                title="Terms of the safety list",
                step="records",
                file="records.parquet",
                counted=f"{kept} in whose description or keywords (record) a term of the category stands",
                values=[
                    {"category": label.name, "assets": told(count), "share": share(told(count), self.total)}
                    for label, count in zip(self.labels, self.found.tolist(), strict=True)
                    if label.kind == "safety"
                ],
            ),
            Figure(
                name="safety.any_term",
                title="Any term of the safety list",
                step="records",
                file="records.parquet",
                counted=f"{kept} with a term of any category",
                values={"assets": told(self.any_label), "share": share(told(self.any_label), self.total)},
            ),
            Figure(
                name="safety.personal",
                title="Personal data by its form",
                step="records",
                file="records.parquet",
                counted=f"{kept} in whose description or keywords pipeline.filtering.pii finds the kind",
                values={
                    "any": told(self.any_personal),
                    **{kind: told(self.personal[kind]) for kind in pii.KINDS},
                },
            ),
            Figure(
                name="safety.taken_out",
                title="Taken out for it",
                step=step,
                file="rows.parquet",
                counted=f"rows whose first reason has a code that begins with pii, or {RESEMBLES}",
                values=dict(sorted(of_reasons(self.taken_for_it).items())),
            ),
        ]
        if "dedup" in version.artifacts:
            counts = corpus.artifact(version, "dedup").counts
            rejected = {name.partition(":")[2]: rows for name, rows in counts.items() if ":" in name}
            found.append(
                Figure(
                    name="safety.duplicates",
                    title="Duplicates that were left out",
                    step="dedup",
                    file="shard.json",
                    counted="counts of the shards: rejected, by the way it was found",
                    values=rejected,
                )
            )
        return found
