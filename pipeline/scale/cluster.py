"""A named cluster as a small TOML file: kinds of nodes, and what each costs by the hour.

Prices are inputs, with the day on which they held; nothing here knows one.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from infra.settings import Section
from pipeline import reading

GIB = 1 << 30


class Nodes(Section):
    """Nodes of one kind."""

    kind: str = "node"
    count: int = Field(ge=1)
    cpus: int = Field(ge=1)
    memory_gib: float = Field(gt=0)
    gpus: int = Field(0, ge=0)
    disk_gib: float | None = Field(None, gt=0)
    """That a node's copies of whole objects may take, as PARDALIS_CACHE_GIB bounds them; None: not told."""
    price_per_hour: float = Field(0, ge=0)
    """Of one node."""


class Cluster(Section):
    name: str
    prices_on: date | None = None
    """The day of the prices; needed where there are any."""
    currency: str = "USD"
    gpu_speedup: float | None = Field(None, gt=0)
    """One GPU, in CPU cores of the machine that the rates are of; None: steps that could run on GPUs are
    counted on CPUs."""
    gpu_speedup_source: str = ""
    """Who measured that, on what."""
    nodes: tuple[Nodes, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _what_is_told_can_be_traced(self) -> Self:
        if self.price_per_hour and self.prices_on is None:
            raise ValueError("prices change; say of which day they are: prices_on = 2026-11-28")
        if self.gpu_speedup is not None and not self.gpu_speedup_source:
            raise ValueError("gpu_speedup needs gpu_speedup_source: who measured it, and on what")
        if self.gpu_speedup is not None and not self.gpus:
            raise ValueError("gpu_speedup has no GPU to speak of; give a kind of nodes gpus, or leave it out")
        return self

    @property
    def cpus(self) -> int:
        return sum(one.count * one.cpus for one in self.nodes)

    @property
    def gpus(self) -> int:
        return sum(one.count * one.gpus for one in self.nodes)

    @property
    def price_per_hour(self) -> float:
        return sum(one.count * one.price_per_hour for one in self.nodes)

    @property
    def driver_bytes(self) -> float:
        """Memory of the node with the most: where a driver would be put."""
        return max(one.memory_gib for one in self.nodes) * GIB

    @property
    def disk_bytes(self) -> float:
        """Of the node with the least, of those that tell."""
        return min((one.disk_gib for one in self.nodes if one.disk_gib), default=math.inf) * GIB

    def workers(self, bytes_each: float) -> int:
        """Workers of one core that fit at once, by cores and by memory; 0: one alone is too large."""
        return sum(
            one.count * min(one.cpus, int(one.memory_gib * GIB // max(bytes_each, 1))) for one in self.nodes
        )


def load(path: Path) -> Cluster:
    try:
        text = path.read_text()
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}; give --cluster a TOML file") from None
    return reading.validated(Cluster, reading.parsed(text, str(path)), str(path))


def told(nodes: Sequence[str], prices_on: str | None) -> Cluster:
    """Of a command line: each a line of TOML, such as ``count = 8, cpus = 64, memory_gib = 256``."""
    parts = [reading.parsed(f"nodes = {{{one}}}", f"--nodes {one!r}")["nodes"] for one in nodes]
    values = {"name": "as told", "nodes": parts, "prices_on": prices_on}
    return reading.validated(Cluster, values, "--nodes")


def here() -> Cluster:
    """The machine that runs it."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB
    one = Nodes(count=1, cpus=os.cpu_count() or 1, memory_gib=memory)
    return Cluster(name="this machine", nodes=(one,))
