"""The one launcher of training groups: a function, run by every rank of a Ray Train group.

A rank that dies takes its group down and the group starts again from its last checkpoint; the function finds
that by itself, so nothing is handed over here.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray.train
from ray.train.torch import TorchTrainer

RECORDS = "ray-train"
"""Ray's own records of a run, within the run's folder, where no other run's can be; never a checkpoint."""
RESTARTS = 3
"""Times that a group may start again."""


class TrainingFailed(RuntimeError):
    """The group died more often than it may."""


def launch(
    run: Callable[[dict[str, Any]], None],
    config: dict[str, Any],
    *,
    folder: Path,
    workers: int,
    cpus: int,
    gpus: int,
) -> None:
    """Run ``run(config)`` in ``workers`` processes, with ``torch.distributed`` set up among them.

    ``folder`` is the run's: absolute, and shared by the workers.
    """
    resources = {"CPU": cpus, **({"GPU": gpus} if gpus else {})}
    trainer = TorchTrainer(
        run,
        train_loop_config=config,
        scaling_config=ray.train.ScalingConfig(
            num_workers=workers, use_gpu=bool(gpus), resources_per_worker=resources
        ),
        run_config=ray.train.RunConfig(
            name=RECORDS,
            storage_path=str(folder),
            failure_config=ray.train.FailureConfig(max_failures=RESTARTS),
        ),
    )
    result = trainer.fit()
    if result.error is not None:
        raise TrainingFailed(f"training {folder} failed: {result.error}; its checkpoints are kept")
