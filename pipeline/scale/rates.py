"""Rates that were measured, as a file: what an image, a shard and a step cost, of which machine and when.

``make bench NAME=scale`` writes one. The surprising rule: a rate says which device it was measured on, and
one of a CPU is never taken for a GPU's.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from infra.settings import Section
from pipeline import reading

PACKAGED = Path(__file__).with_name("rates.json")


class FileRate(Section):
    """Bytes of a file of a step's shards."""

    fixed: float = Field(0, ge=0)
    row: float = Field(0, ge=0)


class StepRate(Section):
    device: Literal["cpu", "cuda"] = "cpu"
    fixed_s: float = Field(ge=0)
    """CPU seconds of a worker whatever there is to do: opening a model, fitting one."""
    shard_s: float = Field(ge=0)
    """A shard, beside its rows."""
    row_s: float = Field(ge=0)
    """A row that comes to the step."""
    listing_shard_s: float = Field(ge=0)
    """A shard, of the driver: listed, looked up, and put into the manifest. No worker takes that off it."""
    files: Mapping[str, FileRate]
    """By what a file is called; a name that tells a slot or a number has ``*`` in its place."""
    entry_bytes: float = Field(ge=0)
    """A shard's entry in the manifest of the artifact."""


class Rates(Section):
    machine: str
    commit: str
    measured_on: date
    of: str
    """What the images were, and with which settings."""
    images: tuple[int, ...] = Field(min_length=1)
    """Of the runs that the rates were fitted to."""
    tokens_per_image: int = Field(ge=1)
    """That the image tokenizer made; work and bytes of other numbers are in proportion."""
    width: int = Field(ge=1)
    """Dimensions of a vector of the index."""
    multiply_add_s: float = Field(gt=0)
    """One, of a large product of float32 on one core."""
    listed_row_s: float = Field(gt=0)
    """Reading a row of neighbors with its candidates, as packing does."""
    error: str = ""
    """What larger runs took, beside what these rates say of them."""
    steps: Mapping[str, StepRate]


def load(path: Path | None = None) -> Rates:
    """The file given, else the package's own."""
    path = path or PACKAGED
    try:
        values = json.loads(path.read_text())
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}; give --rates a file of rates") from None
    except ValueError as error:
        raise ValueError(
            f"{path} is not JSON: {error}; give --rates what `make bench NAME=scale` wrote"
        ) from None
    return reading.validated(Rates, values, str(path))


def line(amounts: Sequence[float], costs: Sequence[float]) -> tuple[float, float]:
    """What is fixed and what each one adds, neither below zero, by least squares of the relative error.

    >>> line([100, 300], [5.0, 9.0])
    (3.0, 0.02)
    >>> line([100, 300], [5.0, 5.0])
    (5.0, 0.0)
    """
    n, cost = np.asarray(amounts, np.float64), np.asarray(costs, np.float64)
    weight = 1 / np.maximum(cost, 1e-9)
    both = np.linalg.lstsq(np.stack([weight, n * weight], 1), cost * weight, rcond=None)[0]
    if both.min() >= 0:
        fixed, each = both
    elif both[1] < 0:
        fixed, each = float(np.average(cost, weights=weight**2)), 0.0
    else:
        fixed, each = 0.0, float((cost * n * weight**2).sum() / (n * n * weight**2).sum())
    return round(float(fixed), 9), round(float(each), 9)
