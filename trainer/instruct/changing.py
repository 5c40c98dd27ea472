"""Instruction examples of edits: of one picture by colour, ground and mirror, of a scene by its things."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np

from pipeline.colors import Pixels
from trainer.instruct import edits, scenes
from trainer.instruct.edits import Edit
from trainer.instruct.scenes import Mask, Scene, Thing
from trainer.instruct.world import Asset, Example, World, line, uid, uids, written
from trainer.tasks import Edited, Picture


@dataclass(frozen=True, slots=True, kw_only=True)
class Paints:
    """A picture whose thing, or ground, may be painted in any of the colors."""

    asset: Asset
    mask: Mask
    colors: tuple[str, ...]

    @classmethod
    def of(cls, asset: Asset) -> Self | None:
        """None where nothing stands on a plain ground, or no picture may be made of it."""
        front = scenes.foreground(asset.pixels) if asset.may_derive else None
        if front is None:
            return None
        # In its own colour a thing stays as it is, and on a ground of its colour it is gone.
        unused = {edits.color_of(asset.pixels, front.mask), edits.ground_of(asset.pixels)}
        return cls(asset=asset, mask=front.mask, colors=tuple(sorted(set(edits.COLORS) - unused)))

    def painted(self, rng: np.random.Generator, *, thing: bool) -> tuple[Edit, str]:
        """The thing in a color, or its ground; and the color's word."""
        color = self.colors[int(rng.integers(len(self.colors)))]
        if thing:
            edit = edits.recolor(self.asset.pixels, self.mask, color, name=self.asset.name, rng=rng)
        else:
            edit = edits.ground(self.asset.pixels, self.mask, color, rng=rng)
        return edit, color


def of_edits(world: World, asset: Asset, num: int) -> Iterator[Example]:
    """Colour, ground and mirror of one picture, colour twice as often."""
    rng = world.rng(asset, "edit")
    paints = Paints.of(asset) if num else None
    if paints is None:
        return
    for number in range(num):
        which = ("color", "color", "ground", "mirror")[int(rng.integers(4))]
        if which == "mirror":
            edit = edits.mirror(asset.pixels, rng=rng)
        else:
            edit, _ = paints.painted(rng, thing=which == "color")
        after = uid(f"edit {edit.recipe}", [asset.uid], world.seed, number)
        yield from _edited(edit, asset.uid, after, (asset.uid,), {after: edit.after})


def _edited(
    edit: Edit, before: str, after: str, sources: tuple[str, ...], made: Mapping[str, Pixels]
) -> Iterator[Example]:
    values = {"before": Picture(before), "instruction": line(edit.instruction), "after": Picture(after)}
    for record in written(Edited, **values):
        yield Example(record=record, words=after, sources=sources, pictures=made)


def of_scene_edits(world: World, asset: Asset, num: int) -> Iterator[Example]:
    rng = world.rng(asset, "scene edit")
    for number in range(num):
        staged = world.staged(asset, 2, rng)
        if staged is None:
            return
        scene, cast = staged
        *_, (other, thing) = world.cast(asset, len(cast) + 1, rng)
        found = _changed(scene, thing if other not in cast else None, world, rng)
        if found is None:
            continue
        edit, used = found
        sources = uids([*cast, other] if used else cast)
        before, after = (
            uid(f"edit {edit.recipe}", sources, world.seed, asset.uid, number, which)
            for which in ("before", "after")
        )
        yield from _edited(edit, before, after, sources, {before: edit.before, after: edit.after})


def _changed(
    scene: Scene, thing: Thing | None, world: World, rng: np.random.Generator
) -> tuple[Edit, bool] | None:
    """An edit of the scene, and whether the thing that was not in it took part; None where it has no room."""
    which, side = int(rng.integers(len(scene.things))), world.side
    kinds = ["remove", "move", "resize"] + (["add", "replace"] if thing is not None else [])
    kind = kinds[int(rng.integers(len(kinds)))]
    if thing is not None and kind == "replace":
        return edits.replace(scene, which, thing, side=side, rng=rng), True
    if thing is not None and kind == "add":
        added = edits.add(scene, thing, side=side, rng=rng)
        return None if added is None else (added, True)
    change = {"remove": edits.remove, "move": edits.move, "resize": edits.resize}[kind]
    edit = change(scene, which, side=side, rng=rng)
    return None if edit is None else (edit, False)
