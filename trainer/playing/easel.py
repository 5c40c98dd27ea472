"""What is asked, done: by the very functions that ``pardalis sample`` calls, with one model that stays open.

The surprising rule: pictures are read from the files that a caller can save. Whoever saves them under the
names that the command has, and runs it on this corpus and this run, gets the same pixels.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from infra.options import CorpusOptions
from infra.redaction import masked_here
from pipeline.searching.library import Found
from trainer import doing, folder, sampling, signing, tasks
from trainer.brushed import on_grid, to_draw
from trainer.doing import Infill, Show, Shown, Task, Told
from trainer.playing.progress import Progress, watched
from trainer.playing.wishes import Wish
from trainer.sampler import SamplerSection
from trainer.sampling import DrawOptions, TaskOptions
from trainer.studio import Drawing, Pixels, Studio

ENCODED = 16
"""Hexadecimal digits of a file's name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A wish that was understood."""

    task: Task
    drawing: DrawOptions
    section: SamplerSection
    command: str
    num_tokens: int
    """That are drawn for each sample; of words at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """What was made of an order."""

    pngs: Mapping[str, bytes]
    """By name; the first is the file that the command writes, and where there are several, each by itself."""
    told: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Easel:
    studio: Studio
    run: Path
    options: CorpusOptions
    section: SamplerSection
    """As the run, and whoever serves it, have it."""
    corpus_version: int

    def order(
        self, wish: Wish, placed: TaskOptions, may_see: Callable[[str], bool] = lambda _uid: True
    ) -> Order:
        """``placed``: the wish's options, with pictures where they lie; ``may_see``: whether an asset may be
        shown to the caller, who gets no words that were written behind those of another. ``ValueError`` for
        what the words of the task cannot say.
        """
        overrides = wish.settings.overrides(self.section)
        options = replace(self.options, overrides=(*self.options.overrides, *overrides))
        section = folder.settings(self.run, options).sampler
        drawing, task = wish.drawing(), placed.task()
        if not doing.looks_for_neighbors(task):
            drawing = replace(drawing, neighbors=None, without=())
        elif isinstance(task, Told):
            found = self._neighbors(task, drawing, section)
            unseen = [one.uid for one in found if not may_see(one.uid)]
            drawing = replace(drawing, without=(*drawing.without, *unseen))
        if isinstance(task, Shown):
            drawing = replace(drawing, out=Path(f"{stem(wish, options)}.png"))
        return Order(
            task=task,
            drawing=drawing,
            section=section,
            # It goes to a page and into files: an address may have a password in it.
            command=masked_here(sampling.command(self.run, wish.options(Path), drawing, options)),
            num_tokens=self._num_tokens(task, section),
        )

    def _num_tokens(self, task: Task, section: SamplerSection) -> int:
        if isinstance(task, Infill):
            start, stop, _ = to_draw((0,) * self.studio.num_codes, self._brushed(task))
            return stop - start
        return self.studio.num_codes if isinstance(task, Shown) else section.max_text_tokens

    def _brushed(self, task: Infill) -> Any:
        mask_HW = doing.opened(self.studio, task.mask).mean(axis=2) > doing.WHITE
        return on_grid(mask_HW, self.studio.grid)

    def made(self, order: Order, progress: Progress) -> Made:
        """In the thread that draws."""
        began = time.monotonic()
        with watched(self.studio.model, progress, order.section.engine):
            if isinstance(order.task, Told):
                found = self._told(order, order.task)
            else:
                found = self._shown(order, order.task)
        seconds = round(time.monotonic() - began, 2)
        return replace(found, told={**found.told, "command": order.command, "seconds": seconds})

    def _told(self, order: Order, task: Told) -> Made:
        found = self._neighbors(task, order.drawing, order.section)
        words = doing.said(self.studio, task, found, order.section, seed=order.drawing.seed)
        return Made(pngs={}, told={"words": words, "neighbors": [asdict(one) for one in found]})

    def _neighbors(self, task: Task, options: DrawOptions, section: SamplerSection) -> Sequence[Found]:
        return doing.neighbors(self.studio, task, options.num_neighbors, options.without, section)

    def _shown(self, order: Order, task: Shown) -> Made:
        options = order.drawing
        found = self._neighbors(task, options, order.section)
        drawing = Drawing(section=order.section, seed=options.seed, samples=options.samples)
        pictures = doing.pictured(self.studio, task, found, drawing)
        facts = {**signing.told_of(self.studio, task, found, drawing), "command": order.command}
        facts["model"]["corpus_version"] = self.corpus_version
        if options.best:
            pictures, facts["scores"] = doing.ranked(self.studio, facts["prompt"], pictures)
        pngs = files(str(options.out), pictures, facts)
        told = {
            "files": [*pngs],
            "scores": facts.get("scores"),
            "neighbors": [asdict(one) for one in found],
            "prompt": prompt(task),
        }
        return Made(pngs=pngs, told=told)


def files(name: str, pictures: Pixels, facts: Mapping[str, Any]) -> dict[str, bytes]:
    """By name: what the command writes, and, where it holds several pictures, each of them by itself."""
    found = {name: signing.png(sampling.side_by_side(pictures), facts)}
    if len(pictures) > 1:
        for number, picture in enumerate(pictures, start=1):
            found[f"{Path(name).stem}-{number}.png"] = signing.png(picture, {**facts, "sample": number})
    return found


def prompt(task: Shown) -> str:
    """What the model reads before a picture, where a template says it in more words than the caller's."""
    if not isinstance(task, Show):
        return doing.words_of(task)
    return " <break> ".join(
        one for one in tasks.said(tasks.prompt(task.given.record)) if isinstance(one, str)
    )


def stem(wish: Wish, options: CorpusOptions) -> str:
    """A name for what is made: equal wishes make equal files."""
    told = f"{wish.model_dump_json()} {options.overrides}"
    return f"{getattr(wish, 'task', '')}-{hashlib.sha256(told.encode()).hexdigest()[:ENCODED]}"
