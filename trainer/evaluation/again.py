"""Which drawn pictures are training pictures again: beside every part that draws.

The surprising rule: whatever was asked for, a training picture given back is no answer, so each part says how
often that was; a baseline that copies shows what the check finds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pipeline.colors import Pixels
from trainer.evaluation import pictures
from trainer.evaluation.bench import Bench
from trainer.evaluation.bootstrap import wilson
from trainer.evaluation.judged import Cell, Table


def duplicates(bench: Bench, rows: Mapping[str, Sequence[Pixels]], *, of: str = "") -> Table:
    """By who drew; ``of`` says what, where a part has several such tables."""
    cells: list[list[Cell]] = []
    for who, each in rows.items():
        same = pictures.near_duplicates(each, bench.known.marks)
        bounds = wilson(int(same.sum()), len(same))
        cells.append([who, int(same.sum()), len(same), bounds.mean, bounds.low, bounds.high])
    told = f", {of}" if of else ""
    return Table(
        title=f"Near-duplicates of {len(bench.known.uids)} training pictures{told}",
        head=["", "near-duplicates", "of pictures", "share", "95 % from", "to"],
        rows=cells,
    )
