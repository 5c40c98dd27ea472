"""Captions a second of a core that the data card counts: associations alone, and all that is counted by row.

CPU time of one thread, on captions of about 14 words; the shard is made in memory, as if it had been read.
"""

from __future__ import annotations

import json
import time
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline import schema
from pipeline.card import parts, people, safety, shifts, termlists
from pipeline.card.associations import Counts
from pipeline.card.matching import Matcher
from pipeline.card.parts import Part

ROWS = 200_000
SUBJECTS = ("a woman", "a man", "an old man", "two children", "a nurse", "the CEO of a firm", "a red bowl")
ACTS = ("smiling", "walking in the city", "cooking", "beside a window", "working as a director", "on a table")
REST = "in soft light before a plain wall with copy space"


def part(matcher: Matcher) -> Part:
    rng = np.random.default_rng(0)
    subjects, acts = rng.integers(len(SUBJECTS), size=ROWS), rng.integers(len(ACTS), size=ROWS)
    texts = [f"{SUBJECTS[one]} {ACTS[other]} {REST}" for one, other in zip(subjects, acts, strict=True)]
    record = {"contributor": {"country": "NL"}, "has_minors": "no", "keywords": [], "releases": {}}
    records = [json.dumps({"description": text, **record}) for text in texts]
    empty = pa.array([[]] * ROWS, pa.list_(pa.string()))
    settled = np.where(rng.random(ROWS) < 0.1, "dedup", "")
    table = pa.table(
        {
            schema.UID.name: [f"acme:{number}" for number in range(ROWS)],
            schema.OUTCOME.name: np.where(settled == "", "kept", "rejected").tolist(),
            schema.SETTLED_BY.name: settled.tolist(),
            schema.REASONS.name: pa.array([["near_duplicate"] if one else [] for one in settled.tolist()]),
            schema.DESCRIPTION.name: texts,
            schema.KEYWORDS.name: empty,
            schema.IMAGE_TYPE.name: ["photo"] * ROWS,
            schema.AI_GENERATED.name: ["no"] * ROWS,
            schema.PEOPLE.name: ["yes"] * ROWS,
            schema.RELEASE.name: ["unlimited"] * ROWS,
        }
    )
    told = parts.parsed(pa.chunked_array([records]))
    return Part(slot="00000-000000", rows=table, told=told, matcher=matcher)


def run() -> dict[str, Any]:
    pa.set_cpu_count(1)
    matcher = Matcher.of(termlists.loaded({}))
    shard, counts = part(matcher), Counts(labels=matcher.labels)
    begin = time.process_time()
    counts.add(shard.found.of(shard.kept), ROWS, int(shard.kept.sum()))
    associated = time.process_time()
    masks = counts.masks(shard.found, ROWS)
    shifts.Shifts(counts.axes).add(shard, masks)
    people.People().add(shard)
    safety.Safety(matcher.labels).add(shard)
    done = time.process_time()
    return {
        "captions": ROWS,
        "associations_per_s": round(ROWS / (associated - begin)),
        "all_per_s": round(ROWS / (done - begin)),
    }
