"""``pardalis tune``: a trained model goes on with instruction data mixed into its pre-training rows.

The same loop and the same objective as in training: the whole of every document counts, the words of a
template among them (arXiv 2309.02591, section 4). The surprising rule: nothing else is new. A tuned run is a
run whose first weights are another's, and which has one more source; what can be done with a run can be done
with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from cyclopts import Parameter

from infra import runs
from infra.options import CorpusOptions, EngineOptions
from pipeline import reading
from pipeline.shards import ShardInfo
from trainer import folder as folders
from trainer import parallel, training
from trainer.checkpoint import Checkpoints
from trainer.config import TrainerConfig
from trainer.instruct import build

SOURCE = "instruct"
RECIPE: dict[str, Any] = {"learning_rate": 5e-5, "warmup_steps": 150, "num_steps": 15_000}
"""arXiv 2309.02591, table 4: 30 B tokens in batches of 2 M."""
WEIGHT = 3.0


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    base: Path
    """Folder of the run to begin with."""
    weight: float | None = None
    """Rows of instruction data for each row of pre-training; three, unless told."""
    best: bool = False
    """Begin with the weights of its lowest validation loss, not with its last."""

    def checkpoint(self) -> Path:
        held = Checkpoints(folder=runs.folder(self.base))
        found = held.best() if self.best else held.latest()
        if found is None:
            raise ValueError(
                f"--base {self.base} holds no checkpoint; run `pardalis train --run {self.base}` first"
            )
        return found


def tune(
    *,
    run: Path,
    start: Start,
    workers: int = 1,
    resume: bool = False,
    options: CorpusOptions | None = None,
    engine: EngineOptions | None = None,
) -> None:
    """Tune a trained model on the instruction data that `pardalis instruct make` made of the newest version.

    Settings are those of the run that it goes on from, with the paper's rate for tuning; --config and --set
    win over them.

    Example: pardalis tune --run runs/tuned --base runs/first --set 'trainer.optimizer.num_steps = 2000'

    Parameters
    ----------
    run
        Folder for checkpoints and metrics of the tuned model.
    workers
        Ranks of the group, as in `pardalis train`.
    resume
        Go on with the tuned run that the folder holds.
    """
    options, engine = options or CorpusOptions(), engine or EngineOptions()
    training.check_engine(workers, engine, plan=False)
    settings = partial(tuned, start=start)
    with parallel.joined():
        training.started(run, settings, workers=workers, resume=resume, options=options, engine=engine)


def check_resumed(start: Start, config: Mapping[str, Any]) -> None:
    """Refuse what a run that goes on was not begun with; ``config``: its settings, as it holds them."""
    base, weight = config.get("base") or {}, config["sources"].get(SOURCE, {}).get("weight")
    began = folders.read(start.base).get("identity")
    if began is not None and began != base.get("identity"):
        raise ValueError(
            f"--base is {start.base}, and the run began with {base.get('folder')}; give that one"
        )
    if start.weight is not None and start.weight != weight:
        raise ValueError(f"--weight is {start.weight}, and the run began with {weight}; leave it out")
    if start.best and (best := start.checkpoint().name) != base.get("checkpoint"):
        raise ValueError(f"--best is {best}, and the run began with {base.get('checkpoint')}; leave it out")


def tuned(run: Path, options: CorpusOptions, packs: Sequence[ShardInfo], *, start: Start) -> TrainerConfig:
    """Settings of a tuned run: its own where it has begun, else the base's with the recipe for tuning."""
    if held := folders.read(run):
        check_resumed(start, held["config"])
        return folders.settings(run, options, packs)
    base, checkpoint = start.base, start.checkpoint()
    began = folders.read(base)
    over = {
        "base": {
            "folder": str(base.absolute()),
            "identity": began["identity"],
            "checkpoint": checkpoint.name,
        },
        "optimizer": RECIPE,
        "sources": {SOURCE: {"step": build.STEP, "weight": WEIGHT if start.weight is None else start.weight}},
    }
    values = reading.merged(began["config"], over)
    if options.config is not None:
        values = reading.merged(values, reading.read(options.config).values.get("trainer", {}))
    told = reading.told({"trainer": values}, str(base / folders.RUN), options.overrides)
    return reading.of_table(TrainerConfig, told, "trainer")
