"""``pardalis plan``: what so many images would take on a cluster, by measured rates."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from infra.options import answer, placed
from pipeline import reading
from pipeline.scale import cluster as clusters
from pipeline.scale import model, sheet
from pipeline.scale import rates as measured
from pipeline.scale.cluster import Cluster
from pipeline.scale.shapes import Scene
from pipeline.settings import Settings


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class OnOptions:
    """Where it would run, and by which rates."""

    cluster: Path | None = None
    """TOML file of nodes and prices, as in pipeline/scale/clusters; default this machine."""
    nodes: tuple[str, ...] = ()
    """Instead of a file, kinds of nodes, each as TOML: --nodes 'count = 16, cpus = 64, memory_gib = 256,
    price_per_hour = 3.0'."""
    prices_on: str | None = None
    """The day of the prices that --nodes tells, such as 2026-11-28."""
    gpu_speedup: float | None = None
    """One GPU in cores of the machine that was measured. Without it, rates of CPUs are counted on CPUs."""
    rates: Path | None = None
    """JSON file of measured rates, as `make bench NAME=scale` writes it; default the package's own."""

    def found(self) -> Cluster:
        """The cluster that the command line names; this machine where it names none."""
        if self.cluster is not None and self.nodes:
            raise ValueError("--cluster and --nodes both name a cluster; give one of them")
        if self.cluster is not None:
            found = clusters.load(self.cluster)
        else:
            found = clusters.told(self.nodes, self.prices_on) if self.nodes else clusters.here()
        if self.gpu_speedup is None:
            return found
        told = {"gpu_speedup": self.gpu_speedup, "gpu_speedup_source": "told by --gpu-speedup"}
        return reading.validated(Cluster, {**found.model_dump(mode="json"), **told}, "--gpu-speedup")


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class SceneOptions:
    """How the images would come, and with which settings they would be built."""

    shard_rows: int = 10_000
    """Images of a delivered shard."""
    deliveries: int = 1
    """That bring the images, each as many."""
    tokens: int = 1024
    """Image tokens of an image: 1024 for 256 px at f8."""
    config: Path | None = None
    """TOML file of settings; default node.toml."""
    overrides: Annotated[tuple[str, ...], Parameter(name="--set")] = ()
    """A line of TOML that wins over the file."""

    def found(self, images: int) -> Scene:
        numbers = {"images": images, "shard-rows": self.shard_rows, "deliveries": self.deliveries}
        for name, value in {**numbers, "tokens": self.tokens}.items():
            if value < 1:
                raise ValueError(f"--{name} {value} is nothing to plan for; give at least 1")
        told = reading.read(self.config or reading.CONFIGS / "node.toml", self.overrides)
        return scene_of(
            reading.of_tables(Settings, told),
            images=images,
            shard_rows=self.shard_rows,
            deliveries=self.deliveries,
            tokens_per_image=self.tokens,
        )


def plan(
    *,
    images: int,
    on: OnOptions | None = None,
    scene: SceneOptions | None = None,
    out: Path | None = None,
    json: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Tell what so many images would take: time, money, bytes, memory, and what would break where.

    Example: pardalis plan --images 340000000 --cluster cluster.toml --out plan.html

    Parameters
    ----------
    images
        All of them counted as kept.
    out
        Where to write the table: a .csv file, or an .html page with plots.
    json
        Print one JSON document on stdout.
    """
    on, scene = on or OnOptions(), scene or SceneOptions()
    place = None if out is None else placed(out, "a table or a page", ".html", ".htm", ".csv")
    found = model.forecast(scene.found(images), on.found(), measured.load(on.rates))
    if place is not None:
        sheet.write(found, place)
    answer(sheet.facts(found), sheet.lines(found), json=json)


def scene_of(told: Settings, **known: int) -> Scene:
    """What settings say of a scene, beside what is known."""
    examples, weights = told.pipeline.examples, told.pipeline.examples.neighbors
    neighbors = sum(number * weight for number, weight in enumerate(weights)) / sum(weights)
    return Scene(
        pairs=1 + neighbors,
        documents_per_target=examples.documents_per_target,
        targets_per_group=examples.targets_per_group,
        rows=examples.rows,
        index=told.retrieval.index,
        neighbors=told.retrieval.neighbors,
        **known,
    )
