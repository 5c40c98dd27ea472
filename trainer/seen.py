"""What a run has seen, as its corpora remember it: of each source the epochs that are whole, and the
positions [0, row) of the epoch under way.

The surprising rule: with the order's seed that is every sequence, exactly, in a few hundred bytes, for a run
of any length: the order is a function of (seed, epoch).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from infra import runs
from trainer import sources
from trainer.order import FACTS, ORDER
from trainer.sources import Opened, Sections

PLACE = (*FACTS, "epoch", "row")


def saw(read: Opened, sections: Sections, identity: str, state: Mapping[str, Any]) -> None:
    """Keep with every corpus how far a run got, from the state of its stream.

    Call it before a checkpoint appears: a record without its checkpoint names too much, and the reverse would
    name too little. Each corpus is told of all sources; one knows its own by the key of their packs.
    """
    told = {
        name: {
            "version": version.number,
            "step": sources.step_of(sections, name),
            "pack": version.artifacts[sources.step_of(sections, name)],
            **{fact: state["sources"][name][fact] for fact in PLACE},
        }
        for name, (_, version) in read.items()
    }
    facts = {"order": {name: state[name] for name in ORDER}, "sources": told}
    for corpus, _ in read.values():
        runs.reached(corpus, identity=identity, position=int(state["position"]), facts=facts)
