"""The one launcher of training groups: a function, run by every rank of a Ray Train group.

A rank that dies takes its group down and the group starts again from its last checkpoint; the function finds
that by itself, so nothing is handed over here. What our own code refuses is not tried again: the rank leaves
it in the run's folder, and the group that comes after goes home.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray
import ray.train
from ray.train import TrainingFailedError
from ray.train.torch import TorchConfig, TorchTrainer

from infra.checkpoints import NotWritten
from infra.ending import origin

RECORDS = "ray-train"
"""Ray's own records of a run, within the run's folder, where no other run's can be; never a checkpoint."""
REFUSED = "refused.json"
"""What a rank's code of ours refused, while the group that it ended is told."""
RESTARTS = 3
"""Times that a group may start again."""
Run = Callable[[dict[str, Any]], None]


class TrainingFailed(RuntimeError):
    """The group died more often than it may, or the training came to nothing."""


def launch(  # what to run, where, and by whom
    run: Run,
    config: dict[str, Any],
    *,
    folder: Path,
    workers: int,
    cpus: int,
    backend: str | None = None,
) -> None:
    """Run ``run(config)`` in ``workers`` processes, with ``torch.distributed`` set up among them.

    ``folder`` is the run's: absolute, and shared by the workers, which take a GPU each where the cluster has
    any, and then talk by ``backend`` (None: Ray's choice). Raises :class:`TrainingFailed`, and ValueError as
    a rank did.
    """
    refused = folder / REFUSED
    refused.unlink(missing_ok=True)
    gpus = int(bool(ray.cluster_resources().get("GPU")))  # type: ignore[no-untyped-call]  # Ray has no hint
    trainer = TorchTrainer(
        functools.partial(_on_a_rank, run=run, refused=refused),
        train_loop_config=config,
        scaling_config=ray.train.ScalingConfig(
            num_workers=workers,
            use_gpu=bool(gpus),
            resources_per_worker={"CPU": cpus, **({"GPU": gpus} if gpus else {})},
        ),
        torch_config=TorchConfig(backend=backend if gpus else None),
        run_config=ray.train.RunConfig(
            name=RECORDS,
            storage_path=str(folder),
            failure_config=ray.train.FailureConfig(max_failures=RESTARTS),
        ),
    )
    try:
        trainer.fit()
    except TrainingFailedError as error:
        if not refused.exists():
            told = f"training {folder} failed: {_first(error)}; its checkpoints are kept"
            raise TrainingFailed(told) from error
    if refused.exists():
        found = json.loads(refused.read_text())
        refused.unlink()
        raise (ValueError if found["mistake"] else TrainingFailed)(found["text"])


def _on_a_rank(config: dict[str, Any], *, run: Run, refused: Path) -> None:
    if refused.exists():
        return
    try:
        run(config)
    except (ValueError, FileNotFoundError, FloatingPointError, NotWritten) as error:
        where = origin(error)
        if where.ours and where.raised:
            mistake = not isinstance(error, FloatingPointError | NotWritten)
            refused.write_text(json.dumps({"mistake": mistake, "text": str(error)}))
        raise


def _first(error: TrainingFailedError) -> str:
    """The last line of what the first rank said, or Ray."""
    failures = list(getattr(error, "worker_failures", {}).values())
    return str(failures[0] if failures else error).strip().rpartition("\n")[2]
