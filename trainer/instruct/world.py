"""Licensed pictures of which examples are made, what is cut out of them, and what an example names.

The surprising rule: an example names everything that it derives from, and its uid is the hash of that, so
what is revoked takes its examples along, and the same assets make the same examples whatever else is in the
shard's other split.

Pixels are uint8 [side, side, 3].
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from pipeline import captions
from pipeline.colors import Pixels
from trainer.instruct import scenes
from trainer.instruct.maps import MAPS
from trainer.instruct.scenes import Scene, Thing
from trainer.tasks import Record, Unwritable

DERIVED = "derived:"
"""Begins the uid of what was made of assets."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asset:
    """What is known of a picture."""

    uid: str
    revision: int
    name: str
    """The description, as licensed."""
    keywords: tuple[str, ...]
    color: str | None
    image_type: str
    may_derive: bool
    """Whether the licences grant derived captions, and with them derived pictures."""
    pixels: Pixels = field(repr=False)
    is_captioned: bool = True
    """Whether the name says what is seen: of a picture that came with a question alone it does not."""

    @property
    def may_be_named(self) -> bool:
        """In what is made of others."""
        return self.may_derive and self.is_captioned


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    record: Record
    words: str
    """uid of whose words those of its fields are: an asset's, or derived."""
    sources: tuple[str, ...]
    """Assets of which anything in it was made or taken, sorted."""
    pictures: Mapping[str, Pixels] = field(default_factory=dict, repr=False)
    """Those that were made for it, by uid; the others are assets'."""

    @property
    def derived(self) -> list[str]:
        """Of what was made for it: pictures, and words of several assets."""
        return sorted({*self.pictures, *([self.words] if self.words.startswith(DERIVED) else [])})


def uid(recipe: str, sources: Sequence[str], *parts: object) -> str:
    """Of what a recipe made of assets (architecture, idea 10)."""
    return DERIVED + captions.digest(recipe, *sorted(sources), *parts).hex()[:24]


def uids(assets: Sequence[Asset]) -> tuple[str, ...]:
    """Of which an example was made, sorted."""
    return tuple(sorted({asset.uid for asset in assets}))


class World:
    """The assets of one split of one shard, and what is cut out of them when it is first asked for."""

    def __init__(
        self,
        assets: Sequence[Asset],
        *,
        split: str,
        side: int,
        seed: int,
        maps: Sequence[str] = tuple(sorted(MAPS)),
    ) -> None:
        """``maps``: the kinds that are made, of :data:`trainer.instruct.maps.MAPS`."""
        self.assets = assets
        self.split = split
        self.side = side
        self.seed = seed
        self.maps = maps
        self._things: dict[str, Thing | None] = {}

    @cached_property
    def named(self) -> dict[str, str]:
        """Each name of an asset that may be used so, and the uid of the first that has it."""
        mine = [(asset.name, asset.uid) for asset in self.assets if asset.may_be_named]
        return dict(sorted(mine, reverse=True))

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Those names, sorted once: every asset is asked about some of them."""
        return tuple(sorted(self.named))

    def rng(self, asset: Asset, task: str) -> np.random.Generator:
        return captions.generator("instruct", self.seed, asset.uid, task)

    def thing(self, asset: Asset) -> Thing | None:
        """What stands in the picture, where its ground is plain and it may be used so."""
        if asset.uid not in self._things:
            sprite = scenes.cut(asset.pixels) if asset.may_be_named else None
            self._things[asset.uid] = None if sprite is None else Thing(asset.name, sprite)
        return self._things[asset.uid]

    def cast(self, asset: Asset, num: int, rng: np.random.Generator) -> list[tuple[Asset, Thing]]:
        """The asset and others beside it, each of another name; fewer where there are not so many."""
        found: list[tuple[Asset, Thing]] = []
        for one in (asset, *(self.assets[i] for i in rng.permutation(len(self.assets))[: 4 * num])):
            thing = self.thing(one) if len(found) < num else None
            if thing is not None and one.name not in {other.name for other, _ in found}:
                found.append((one, thing))
        return found if found and found[0][0] is asset else []

    def staged(self, asset: Asset, least: int, rng: np.random.Generator) -> tuple[Scene, list[Asset]] | None:
        """A scene of the asset and others, ``least`` to 3, at random places on a random plain ground; None
        where there are not so many things.
        """
        cast = self.cast(asset, int(rng.integers(least, MOST_THINGS + 1)), rng)
        if len(cast) < least:
            return None
        ground = scenes.WHITE if rng.random() < WHITE_SHARE else pastel(rng)
        frames = scenes.draw_layout(rng, len(cast))
        return Scene(things=tuple(thing for _, thing in cast), frames=frames, ground=ground), [
            one for one, _ in cast
        ]


MOST_THINGS = 3
"""Of a scene: four leave little room for any of them at 64 px."""
WHITE_SHARE = 0.5
"""Of scenes, those on white ground, as their things were delivered."""


def pastel(rng: np.random.Generator) -> scenes.RGB:
    """A light ground, on which things of any colour are seen."""
    red, green, blue = (int(level) for level in rng.integers(170, 256, 3))
    return red, green, blue


def written(of: type[Record], **values: Any) -> Iterator[Record]:
    """The record, or nothing where its template cannot say it."""
    try:
        yield of(**values)
    except Unwritable:
        return


def line(text: str) -> str:
    """In one line."""
    return " ".join(text.split())
