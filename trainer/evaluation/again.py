"""Which drawn pictures are training pictures again: beside every part that draws.

The surprising rule: whatever was asked for, a training picture given back is no answer, so each part says how
often that was; a baseline that copies shows what the check finds. Signs, scenes and edits are trained on what
was made of assets, so for these that is looked among too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pipeline.colors import Pixels
from trainer.evaluation.bench import Bench
from trainer.evaluation.bootstrap import wilson
from trainer.evaluation.judged import Cell, Table
from trainer.evaluation.known import MOST_DERIVED
from trainer.marks import Marks, near_duplicates
from trainer.tasks import Record


def duplicates(
    bench: Bench,
    rows: Mapping[str, Sequence[Pixels]],
    *,
    of: str = "",
    task: type[Record] | None = None,
    first: Sequence[str] = (),
) -> Table:
    """By who drew; ``of`` says what, where a part has several such tables.

    ``task``: among the pictures derived for its training examples too, ``first`` among those that were copied
    (uids), which a model that copies would most likely give.
    """
    marks, among = bench.known.marks, f"{len(bench.known.uids)} training pictures"
    if task is not None:
        derived = bench.known.derived(task)
        copied = set(first).intersection(derived)
        looked = sorted(derived, key=lambda uid: uid not in copied)[:MOST_DERIVED]
        marks += Marks.of(bench.remembered(looked))
        among += f" and {len(looked)} of the {len(derived)} derived ones of this task"
    cells: list[list[Cell]] = []
    for who, each in rows.items():
        same = near_duplicates(each, marks)
        bounds = wilson(int(same.sum()), len(same))
        cells.append([who, int(same.sum()), len(same), bounds.mean, bounds.low, bounds.high])
    told = f", {of}" if of else ""
    return Table(
        title=f"Near-duplicates of {among}{told}",
        head=["", "near-duplicates", "of pictures", "share", "95 % from", "to"],
        rows=cells,
    )
