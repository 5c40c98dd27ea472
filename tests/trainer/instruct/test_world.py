"""What a shard's pictures offer those who make examples of them."""

from __future__ import annotations

import numpy as np

from pipeline.split import TRAIN
from trainer.instruct.world import Asset, World


def asset(uid: str, name: str, *, may_derive: bool = True) -> Asset:
    pixels = np.zeros((8, 8, 3), np.uint8)
    return Asset(
        uid=uid,
        revision=1,
        name=name,
        keywords=(),
        color=None,
        image_type="photo",
        may_derive=may_derive,
        pixels=pixels,
    )


def test_names_that_may_be_used_are_sorted_once_each_with_the_first_that_has_it() -> None:
    kept_back = asset("acme:0", "bicycle", may_derive=False)
    mine = [asset("acme:3", "kettle"), asset("acme:2", "apple"), asset("acme:1", "kettle"), kept_back]
    world = World(mine, split=TRAIN, side=8, seed=0)
    assert world.names == ("apple", "kettle")
    assert world.names is world.names
    assert world.named == {"apple": "acme:2", "kettle": "acme:1"}
