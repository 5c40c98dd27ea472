"""Packs with ``<pad>`` in place of what was taken back, written down: what a loader that refuses it reads.

The surprising rule: nothing is packed anew. Rows, documents and blocks keep their places, so a run that reads
the packs goes on in the same order, and only files that held a token of it are written. The next ``build``
packs without the holes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from infra.artifact import (
    Artifact,
    File,
    Made,
    Shard,
    find_shard,
    fingerprint,
    publish_artifact,
    publish_shard,
)
from infra.corpus import Version
from infra.storage import Store
from infra.telemetry import Log
from pipeline import erased, packs, refs, shards, tables
from pipeline.examples import CONTRIBUTORS, Amounts, Holders, holdings
from pipeline.packed import Modality


def blanked(
    store: Store, made: Artifact, gone: frozenset[str], holders: Holders, inputs: Mapping[str, str], log: Log
) -> Artifact:
    """The packs without the assets; themselves, if they hold none. ``holders``: of what is gone, at least."""
    found: dict[str, Shard] = {}
    with log.bar(made.step, total=len(made.shards), unit="shards") as bar:
        for slot, shard in made.shards.items():
            found[slot] = of_slot(store, shard, gone, holders, key=key_of(shard.key, gone))
            bar.advance(1)
    if all(found[slot] is shard for slot, shard in made.shards.items()):
        return made
    return Artifact(
        step=made.step,
        key=key_of(made.key, gone),
        settings=made.settings,
        inputs={**made.inputs, **inputs},
        shards=found,
    )


def key_of(before: str, gone: frozenset[str]) -> str:
    """Of what had a key, and is without these assets now."""
    return fingerprint("blanked", before, sorted(map(erased.hashed, gone)))


def listed(store: Store, head: Version, version: Version, artifact: Artifact) -> Version:
    """With packs that are those of ``head``, or were blanked since."""
    publish_artifact(store, artifact)
    step, before = artifact.step, head.artifacts[artifact.step]
    origins = {**version.origins}
    if artifact.key != before:
        origins[step] = head.origin(step)
    return replace(version, artifacts={**version.artifacts, step: artifact.key}, origins=origins)


def of_slot(store: Store, shard: Shard, gone: frozenset[str], holders: Holders, *, key: str) -> Shard:
    """One slot of packs; itself, if it holds none of the assets."""
    made = find_shard(store, shard.step, key)
    if made is not None:
        return made
    files: dict[str, bytes] = {}
    infos: dict[str, Any] = {}
    less: Counter[tuple[str, str, str]] = Counter()
    for name, info in shard.facts["packs"].items():
        data = refs.of(store, shard, name).read()
        found = shards.rewritten(data, info, gone)
        if found is not None:
            if "licenses" in shard.facts:  # of instruction data nobody's amounts are told
                less.update(taken(data, info, gone, holders))
            files[name], infos[name] = found
    dropped = shard.facts.get("dropped_neighbors", [])
    stay = [one for one in dropped if gone.isdisjoint(named(one))]
    if not files and len(stay) == len(dropped):
        return shard
    facts = {**shard.facts, "packs": {**shard.facts["packs"], **infos}}
    if less:
        left = without(packs.held(store, shard), less, "contributors")
        files[CONTRIBUTORS] = tables.to_parquet(holdings(left))
        facts["licenses"] = without(shard.facts["licenses"], less, "licenses")
    if dropped:
        facts["dropped_neighbors"] = stay
    kept: dict[str, File] = shard.lent(*(name for name in shard.files if name not in files))
    return publish_shard(
        store, shard.step, key, Made(files=files, kept=kept, counts=shard.counts, facts=facts)
    )


def named(dropped: Mapping[str, str]) -> set[str]:
    """The assets that a dropped neighbor's record names."""
    return {dropped["uid"], dropped["example_id"].partition("#")[0]}


def taken(
    data: bytes, info: shards.ShardInfo, gone: frozenset[str], holders: Holders
) -> Counter[tuple[str, str, str]]:
    """(of licences or contributors, whose, pairs or tokens): what is blanked, neighbors of what goes too."""
    found: Counter[tuple[str, str, str]] = Counter()
    for block in shards.blocks_of(data, info):
        left = block.without(gone).tokens_RT
        for row, spans in enumerate(block.record.column(3).to_pylist()):
            for span in spans:
                here = slice(span["start"], span["start"] + span["length"])
                if not span["uid"] or not span["length"] or left[row, here].any():
                    continue
                if not block.tokens_RT[row, here].any():
                    continue
                licenses, contributor = holders[span["uid"]]
                pair = span["modality"] == Modality.TEXT
                for of, names in (("licenses", licenses), ("contributors", [contributor])):
                    for name in names:
                        found[of, name, "pairs"] += pair
                        found[of, name, "tokens"] += span["length"]
    return found


def without(amounts: Amounts, less: Mapping[tuple[str, str, str], int], of: str) -> Amounts:
    """Pairs and tokens by licence or contributor, less what is blanked; nobody who has none left."""
    left = {
        name: {what: number - less.get((of, name, what), 0) for what, number in one.items()}
        for name, one in amounts.items()
    }
    return {name: one for name, one in left.items() if any(one.values())}
