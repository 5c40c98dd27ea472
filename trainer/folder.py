"""The folder of a run: whose it is, how it was trained and with which tokenizers, and a new one's settings.

The surprising rule: settings are held against the packs before the folder is claimed, so that a mistake
leaves nothing behind and the corrected command may name the same folder.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from infra import runs
from infra.artifact import fingerprint, pretty
from infra.corpus import Corpus, Version
from infra.options import CorpusOptions
from infra.storage import LocalStore
from pipeline import reading
from pipeline.shards import ShardInfo
from trainer import order, sources, stream
from trainer.checkpoint import Checkpoints, read_state
from trainer.config import TrainerConfig
from trainer.spans import MaskingSection

RUN = "run.json"
TOKENIZERS = ("bpe", "vq")
NO_PART: dict[str, Any] = {
    **dict.fromkeys(("instruct", "loader", "sampler", "sources"), True),
    "admission": {"as_of", "deletion_plans"},
    "base": {"folder"},
}
"""Settings that are no part of a run's identity; its sources are told by their packs."""
MAY_CHANGE: dict[str, Any] = {**NO_PART, "optimizer": True, "loop": True}
"""Settings that a run may go on with in another way: a lower rate behind a divergence, other numerics, other
ranks. What it has seen, and what its weights mean, hangs on none of them.
"""


def identity(version: Version, config: TrainerConfig) -> str:
    """What a run was when it began: packs, and how they are trained on. Who makes its batches, and how one
    samples from it later, is no part.
    """
    return _told(version, config, NO_PART)


def _told(version: Version, config: TrainerConfig, but: dict[str, Any]) -> str:
    settings = config.model_dump(mode="json", exclude=but)
    return fingerprint(settings, version.origin("pack"), *sources.identity(version, config.sources))


def tokenizers(corpus: Corpus, version: Version) -> dict[str, str]:
    """Keys of the fitted tokenizers, which say what the ids of a model mean."""
    return {step: corpus.artifact(version, step).key for step in TOKENIZERS}


def claim(run: Path, version: Version, config: TrainerConfig, keys: Mapping[str, str]) -> str:
    """Make the folder this run's, or find that it is; the identity that it began with comes back.

    Settings that changed on the way are kept, those before them too.
    """
    run.mkdir(parents=True, exist_ok=True)
    lasting, told, held = _told(version, config, MAY_CHANGE), config.model_dump(mode="json"), read(run)
    if held and held.get("lasting") != lasting:
        raise runs.OtherRun(
            f"{run} holds a run of other packs, or with another trainer.model, .masking, .stream, .seed or "
            ".admission; give another --run. Only .optimizer, .loop and .loader may change when a run goes on"
        )
    before = held.get("before", [])
    if held and held["config"] != told:
        before = [*before, held["config"]]
    facts = {
        "identity": held.get("identity") or identity(version, config),
        "lasting": lasting,
        "config": told,
        "before": before,
        "tokenizers": dict(keys),
    }
    LocalStore(str(run)).write(RUN, pretty(facts))
    return str(facts["identity"])


def read(run: Path) -> dict[str, Any]:
    """What the folder says of its run; empty where it holds none."""
    path = run / RUN
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return found


def begun(run: Path) -> str | None:
    """As of when the folder's run was admitted, if it holds one."""
    config = read(run).get("config", {})
    as_of: str | None = config.get("admission", {}).get("as_of")
    return as_of


def settings(run: Path, options: CorpusOptions, packs: Sequence[ShardInfo] = ()) -> TrainerConfig:
    """``[trainer]`` of the file given; else as the folder's run was trained; else the defaults.

    What all of them leave open is taken from the packs; overrides win.
    """
    path = options.config or run / RUN
    if options.config:
        held = reading.read(options.config).values.get("trainer", {})
    else:
        held = read(run).get("config", {})
    values = reading.merged({"trainer": fitting(packs)}, {"trainer": held})
    where = str(path) if held else "the trainer's settings"
    return reading.of_table(TrainerConfig, reading.told(values, where, options.overrides), "trainer")


def fitting(packs: Sequence[ShardInfo]) -> dict[str, Any]:
    """Settings that depend on how the rows were packed."""
    if not packs:
        return {}
    max_spans = min(MaskingSection().max_spans, stream.span_room(packs))
    return {
        "model": {"context": max(info["context"] for info in packs)},
        "masking": {"max_spans": max_spans},
    }


def check(config: TrainerConfig, packs: Sequence[ShardInfo], *, ranks: int) -> None:
    """Refuse settings that these packs, or so many ranks, cannot be trained with."""
    stream.check_rows(packs)
    stream.check_room(packs, config.masking)
    order.check_ranks(config.stream, ranks)
    context = max(info["context"] for info in packs)
    if config.model.context < context:
        raise ValueError(
            f"trainer.model.context is {config.model.context} and the rows hold documents of up to {context} "
            "tokens; raise it, or pack with a smaller pipeline.examples.rows.context"
        )


def check_tokenizers(run: Path, corpus: Corpus, version: Version) -> None:
    """Refuse a corpus whose tokenizers are not those of the run: the same ids would mean other things."""
    path = run / RUN
    keys = json.loads(path.read_text()).get("tokenizers") if path.exists() else None
    if keys is None:
        raise ValueError(
            f"{path} does not say which tokenizers the run was trained with; "
            f"run `pardalis train --run {run} --resume` with the corpus that it was trained on"
        )
    found = tokenizers(corpus, version)
    other = [f"{step} {keys[step]}, not {found[step]}" for step in TOKENIZERS if keys[step] != found[step]]
    if other:
        raise runs.OtherRun(
            f"{run} was trained with the tokenizers of {origin(run)} ({'; '.join(other)}): to version "
            f"{version.number} of {corpus.store.uri} its tokens mean other things; give --corpus the one "
            "that it was trained on, or train another run"
        )


def origin(run: Path) -> str:
    """The corpus that a run saw, as its last checkpoint tells it."""
    last = Checkpoints(folder=run).latest()
    note = read_state(last).note if last else {}
    return f"version {note['version']} of {note['corpus']}" if "version" in note else "another corpus"
