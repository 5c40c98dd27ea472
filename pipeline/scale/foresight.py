"""``pardalis build --dry-run``: what a build would make of this corpus, and how long; nothing is written.

Tasks are listed by the very steps, and looked up as a build does. The surprising rule: they are known only up
to the first step that has something to make, since a key is of what is read. Of a step behind it the tasks
are estimated, from the shards and rows of what it reads, as if all of them were new and kept; that is said.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from infra.artifact import Artifact, find_artifact
from infra.corpus import Corpus, Version
from infra.telemetry import known
from pipeline import build, ids, indexing, plan, telling
from pipeline import config as configs
from pipeline.build import Built
from pipeline.outcomes import KEPT
from pipeline.scale import model, shapes
from pipeline.scale import rates as measured_rates
from pipeline.scale.cluster import Cluster
from pipeline.scale.command import OnOptions, scene_of
from pipeline.scale.rates import Rates
from pipeline.scale.shapes import SHAPES, Scene
from pipeline.scale.sheet import duration
from pipeline.settings import Asked
from pipeline.step import Source, Step, Task, generation


@dataclass(frozen=True, slots=True, kw_only=True)
class Foreseen:
    """A step as it would run."""

    step: str
    shards: int
    make: int
    """Of them that are not there; 0 where the step would run nothing."""
    rows: int
    """That come to what would be made."""
    estimated: bool
    """Whether shards and rows are told from what the step reads, since that is not there yet."""
    cpu_s: float = 0.0
    """Of workers."""
    seconds: float = 0.0
    money: float = 0.0
    by: Literal["", "corpus", "rates"] = ""
    """``corpus``: seconds a shard, as this corpus's own logs tell; ``rates``: those measured elsewhere."""


@dataclass(slots=True, kw_only=True)
class _Ahead:
    """How far the plan is known."""

    version: Version
    rows: dict[str, int]
    """Kept by each step; of one that is not there yet, as many as come to it."""
    new: dict[str, int]
    """Of them, how many come to what would be made."""
    pending: set[str]
    """Steps that would make something."""


def told(asked: Asked, to: str | None, on: OnOptions) -> tuple[dict[str, Any], str]:
    """What the command answers."""
    config, corpus = configs.of(asked.told), asked.corpus
    version, cluster, rates = corpus.newest(), on.found(), measured_rates.load(on.rates)
    image = config.tokenizer.image
    scene = scene_of(config, images=1, tokens_per_image=(image.side // image.fit.vq.downsample) ** 2)
    scene = replace(scene, fit_images=image.max_images, side=image.side)
    steps = plan.up_to(plan.build_steps(config), to)
    found = foreseen(corpus, version, steps, scene, cluster, rates)
    return facts(found, cluster, rates), lines(found, cluster)


def foreseen(
    corpus: Corpus, version: Version, steps: Sequence[Step], scene: Scene, cluster: Cluster, rates: Rates
) -> list[Foreseen]:
    """Of each step in order."""
    ahead, found = _Ahead(version=version, rows={}, new={}, pending=set()), []
    measured = {name: one.seconds for name, one in known(corpus.store).items() if one.seconds is not None}
    for step in steps:
        source = Built(corpus=corpus, version=ahead.version)
        if telling.is_pinned(step, version):
            build.check_pinned(corpus.artifact(version, step.name), step)
            shards, make, rows, estimated = 1, 0, 0, False
        elif is_known(source, step, ahead):
            shards, make, rows = _listed(source, step, ahead)
            estimated = False
        else:
            shards, make, rows = _estimated(source, step, ahead, scene, rates)
            estimated = True
        if make:
            ahead.pending.add(step.name)
        ahead.new[step.name] = rows
        one = Foreseen(step=step.name, shards=shards, make=make, rows=rows, estimated=estimated)
        at = replace(scene, images=max(rows, 1))
        found.append(timed(one, at, cluster, rates, measured.get(step.name)))
    return found


def is_known(source: Built, step: Step, ahead: _Ahead) -> bool:
    """Whether all that the step reads is there; ids are given by the build itself, just before ``codes``."""
    if ahead.pending.intersection(step.inputs):
        return False
    if step.name == "codes":
        shards = [shard for _, shard in sorted(source.artifact("split").shards.items())]
        return ids.table(source.store, source.version).keys() >= {*indexing.kept_uids(source.store, shards)}
    return True


def _listed(source: Built, step: Step, ahead: _Ahead) -> tuple[int, int, int]:
    """Shards, those to make, and their rows. What is there is put into the version, as a build would."""
    tried = next(iter(build.batches(source, step)))
    wanted = build.Wanted.of(source, tried)
    artifact = find_artifact(source.store, step.name, wanted.key)
    if artifact is not None:
        ahead.version = build.listing(ahead.version, tried, artifact)
        ahead.rows[step.name] = artifact.counts.get(KEPT, 0)
        return len(wanted.keys), 0, 0
    there = wanted.there(source.store, tried)
    missing = [one for one in wanted.tasks if one.slot not in there]
    came = source.artifact(step.inputs[0])
    ahead.rows[step.name] = came.counts.get(KEPT, 0)
    # All shards there and no manifest: the build would write that one alone, and others may read it then.
    ahead.pending.add(step.name)
    return len(wanted.keys), len(missing), rows_of(missing, came, len(wanted.keys))


def rows_of(missing: Sequence[Task], came: Artifact, tasks: int) -> int:
    """Rows that come to these tasks: of their slots or generations where those tell, else their share."""
    own = [came.shards[one.slot] for one in missing if one.slot in came.shards]
    if len(own) == len(missing):
        return sum(shard.counts.get(KEPT, 0) for shard in own)
    names = {one.slot for one in missing}
    if names <= {generation(slot) for slot in came.shards}:
        mine = (shard for slot, shard in came.shards.items() if generation(slot) in names)
        return sum(shard.counts.get(KEPT, 0) for shard in mine)
    return round(came.counts.get(KEPT, 0) * len(missing) / max(tasks, 1))


def _estimated(source: Source, step: Step, ahead: _Ahead, scene: Scene, rates: Rates) -> tuple[int, int, int]:
    """As many shards as the step's shape has for the rows that come, and of them the share that is new."""
    first = step.inputs[0]
    rows = ahead.rows.get(first)
    if rows is None:  # made by no step of the plan: there, as ingestion left it
        rows = source.artifact(first).counts.get(KEPT, 0)
    ahead.rows[step.name] = rows
    new = max((ahead.new[name] for name in step.inputs if name in ahead.pending), default=rows)
    slots = source.artifact("images").shards
    deliveries = len({generation(slot) for slot in slots})
    each = SHAPES[step.name].tasks
    if each is shapes.by_shard:
        return len(slots), math.ceil(len(slots) * new / max(rows, 1)), new
    tasks = max(1, round(each(replace(scene, images=max(rows, 1), deliveries=deliveries), rates)))
    return tasks, tasks if new else 0, rows


def timed(one: Foreseen, scene: Scene, cluster: Cluster, rates: Rates, shard_s: float | None) -> Foreseen:
    """With time and money: by the seconds that a shard took in this corpus, where its logs tell them."""
    if not one.make:
        return one
    work = None if shard_s is None else shard_s * one.make
    need = model.need(one.step, scene, cluster, rates, tasks=one.make, cpu_s=work)
    by: Literal["corpus", "rates"] = "rates" if shard_s is None else "corpus"
    return replace(one, cpu_s=need.cpu_s, seconds=need.seconds, money=need.money, by=by)


def facts(found: Sequence[Foreseen], cluster: Cluster, rates: Rates) -> dict[str, Any]:
    added = {name: sum(getattr(one, name) for one in found) for name in ("make", "cpu_s", "seconds", "money")}
    return {
        "steps": [asdict(one) for one in found],
        "total": added,
        "cluster": cluster.model_dump(mode="json"),
        "rates": rates.model_dump(mode="json", exclude={"steps"}),
        "written": False,
    }


def lines(found: Sequence[Foreseen], cluster: Cluster) -> str:
    said = [f"on {cluster.name}: {cluster.cpus} cores, {cluster.gpus} GPUs; nothing was written"]
    for one in found:
        if not one.make:
            said.append(f"{one.step:<10} {one.shards:>8} shards, all there")
            continue
        about = "about " if one.estimated else ""
        how = "by this corpus's logs" if one.by == "corpus" else "by measured rates"
        money = f", {one.money:,.2f} {cluster.currency}" if cluster.price_per_hour else ""
        said.append(
            f"{one.step:<10} {one.make:>8} of {about}{one.shards} shards, {one.rows} rows: CPU "
            f"{duration(one.cpu_s)}, {duration(one.seconds)}{money}; {how}"
        )
    seconds, costs = sum(one.seconds for one in found), sum(one.money for one in found)
    priced = f", {costs:,.2f} {cluster.currency}" if cluster.price_per_hour else ""
    said.append(f"{'total':<10} {duration(seconds)}{priced}")
    if any(one.estimated for one in found):
        names = ", ".join(one.step for one in found if one.estimated)
        said.append(f"estimated, since what they read is not there yet, as if all rows were kept: {names}")
    return "\n".join(said)
