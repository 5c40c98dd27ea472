"""How far a plan is and how long its rest takes: by what was measured, and never by a guess.

Work is counted in seconds of a worker, so that what one cluster measured tells about another. Of a step that
has begun, the shards to make are known, and a shard takes what those of this job took; before its first is
done, what an earlier job's took. Of a step that has not begun, both are told from others:

- It will have as many shards as the step that it reads, times what was between the two in an earlier job
  (1 where none was; a model is one shard).
- It will make as many as that step makes, times the same; or more, where fewer are there already: the
  shards that it will have, less those that it had when a job last told. So a delivery that adds ten shards
  is forecast as ten at every step, and a build that died half way as all that it had not come to.

A step whose shards were never timed, or that reads nothing of the plan, is unknown: it is told by name, and
the time left is then "at least". A later step is taken to keep as many workers busy as this job has so far.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A step of the plan."""

    name: str
    reads: tuple[str, ...] = ()
    fitted: bool = False
    """A model: one shard, made by one worker."""
    pinned: bool = False
    """It stays as it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What jobs have told of a step."""

    there: int
    """Shards that were found or made."""
    total: int
    """With those that were still to be made."""
    seconds: float | None = None
    """Of a worker, for a shard; None where none was ever timed."""

    def json(self) -> dict[str, Any]:
        seconds = None if self.seconds is None else round(self.seconds, 4)
        return {"there": self.there, "total": self.total, "seconds": seconds}


@dataclass(slots=True, kw_only=True)
class Begun:
    """A step at work, or done."""

    found: int
    missing: int
    began: float
    made: int = 0
    busy: float = 0.0
    """Seconds of workers in the shards made."""
    is_usual: bool = True
    """Whether they were made as they always are; else they tell nothing about others."""
    took: float | None = None
    """Seconds from begin to end; None while it is at work."""
    share: float = 0.0
    """Of the one shard of a model."""

    def seconds(self, now: float) -> float:
        return now - self.began if self.took is None else self.took

    def worked(self, now: float) -> float:
        """Seconds of workers, with what a model's one worker has done of its shard."""
        return self.busy or (self.seconds(now) if self.share else 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ahead:
    """The forecast at one moment."""

    steps: int
    done: int
    share: float | None = None
    """Done of the work that is known."""
    left_s: float | None = None
    """None: nothing is known."""
    step_left_s: float | None = None
    unknown: tuple[str, ...] = ()
    """Steps of which nothing is known; ``left_s`` is without them."""

    def json(self) -> dict[str, Any]:
        told = asdict(self)
        rounded = {name: told[name] and round(told[name], 3) for name in ("share", "left_s", "step_left_s")}
        return {**told, **rounded, "unknown": list(self.unknown)}


@dataclass(slots=True)
class Forecast:
    """Told of a plan as it runs."""

    parts: dict[str, Part] = field(default_factory=dict)
    earlier: Mapping[str, Known] = field(default_factory=dict)
    begun: dict[str, Begun] = field(default_factory=dict)
    at_work: str | None = None
    clock: Callable[[], float] = time.monotonic

    def plan(self, parts: Iterable[Part]) -> None:
        """What will be run; more may be added."""
        self.parts.update({part.name: part for part in parts})

    def begin(self, part: Part, *, found: int, missing: int) -> None:
        self.parts.setdefault(part.name, part)
        self.begun[part.name] = Begun(found=found, missing=missing, began=self.clock())
        self.at_work = part.name

    def made(self, name: str, seconds: float, *, is_usual: bool = True) -> None:
        """A shard is done, and took its worker so long; in a cheaper way than usual, as when assets are taken
        back.
        """
        step = self.begun[name]
        step.is_usual &= is_usual
        step.made += 1
        step.busy += seconds

    def at(self, name: str, share: float) -> None:
        """So much of a model's one shard is done."""
        if name in self.begun and self.parts[name].fitted:
            self.begun[name].share = share

    def end(self, name: str) -> None:
        step = self.begun[name]
        step.took, self.at_work = step.seconds(self.clock()), None

    def settle(self, part: Part, shards: int) -> None:
        """There was nothing to do."""
        self.begin(part, found=shards, missing=0)
        self.end(part.name)

    def known(self) -> dict[str, Known]:
        """What the next job may go by: what this one measured, and of other steps what it was told."""
        # In one piece, since a step may begin while the thread that writes the log asks.
        for_now = list(self.begun.items())
        return {
            **self.earlier,
            **{
                name: Known(
                    there=step.found + step.made,
                    total=step.found + step.missing,
                    seconds=self._measured(name) if step.is_usual else self._told(name),
                )
                for name, step in for_now
            },
        }

    def _measured(self, name: str) -> float | None:
        """Seconds of a worker for a shard, in this job or else in an earlier one."""
        step = self.begun.get(name)
        if step is not None and step.made:
            return step.busy / step.made
        if step is not None and step.share:
            return step.seconds(self.clock()) / step.share
        return self._told(name)

    def _told(self, name: str) -> float | None:
        earlier = self.earlier.get(name)
        return earlier.seconds if earlier is not None else None

    def ahead(self) -> Ahead:
        missing, total = dict[str, float](), dict[str, float]()
        unknown = list[str]()
        ended, done, known, left, now = 0, 0.0, 0.0, 0.0, None
        for name, part in list(self.parts.items()):
            step = self.begun.get(name)
            ended += part.pinned or (step is not None and step.took is not None)
            self._count(part, missing, total)
            done += step.worked(self.clock()) if step is not None else 0.0
            to_make = missing.get(name, math.inf) - (step.made if step is not None else 0)
            seconds = self._measured(name)
            if to_make == math.inf or (to_make and seconds is None):
                unknown.append(name)
                continue
            within = step.worked(self.clock()) if step is not None and not step.made else 0.0
            work = max(to_make * (seconds or 0.0) - within, 0.0)
            known += work
            together = self._together(name, part)
            if work and together is None:
                unknown.append(name)
                continue
            took = work / (together or 1.0)
            left += took
            now = took if name == self.at_work else now
        return Ahead(
            steps=len(self.parts),
            done=ended,
            share=done / (done + known) if done + known else None,
            left_s=None if unknown and not left else left,
            step_left_s=now,
            unknown=tuple(unknown),
        )

    def _count(self, part: Part, missing: dict[str, float], total: dict[str, float]) -> None:
        """Shards that the step makes in this job, and has at its end; neither where nothing tells."""
        step, mine = self.begun.get(part.name), self.earlier.get(part.name)
        source = next((name for name in part.reads if name in missing), None)
        if step is not None:
            missing[part.name], total[part.name] = step.missing, step.found + step.missing
        elif part.pinned:
            missing[part.name], total[part.name] = 0, 1
        elif part.fitted:
            is_there = mine is not None and mine.there > 0
            missing[part.name] = min(1, missing.get(source or "", 0)) if is_there else 1
            total[part.name] = 1
        elif source is not None:
            its = self.earlier.get(source)
            ratio = mine.total / its.total if mine and its and its.total else 1.0
            total[part.name] = total[source] * ratio
            there = mine.there if mine else 0
            missing[part.name] = max(missing[source] * ratio, total[part.name] - there)

    def _together(self, name: str, part: Part) -> float | None:
        """Workers that are busy at once: at this step, else at all so far."""
        if part.fitted:
            return 1.0
        step = self.begun.get(name)
        if step is not None and step.made:
            return step.busy / max(step.seconds(self.clock()), 1e-9) or None
        timed = [one for one in list(self.begun.values()) if one.made]
        seconds = sum(one.seconds(self.clock()) for one in timed)
        return sum(one.busy for one in timed) / max(seconds, 1e-9) or None
