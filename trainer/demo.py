"""``pardalis demo``: a real licensed corpus, from its packages to a model that draws and captions, offline.

Everything runs through the same steps as a stock agency's delivery. The prompts are fixed, the seed is the
first, nothing is picked; an asset that is named by a prompt is never among that prompt's neighbors.
"""

from __future__ import annotations

import json as json_text
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from infra import runs
from infra.artifact import fingerprint, pretty
from infra.corpus import Version
from infra.options import LAST_DEMO, CorpusOptions, EngineOptions, answer
from infra.storage import LocalStore, Store, cache_folder
from infra.telemetry import clock, say
from pipeline import jobs, reading, weights
from pipeline.deliveries import emoji
from pipeline.settings import Asked
from trainer import exhibit, folder, page, training
from trainer.config import TrainerConfig

CONFIG = reading.CONFIGS / "demo.toml"
AS_OF = "2026-11-22T00:00:00Z"
"""Rights are judged at this instant, so that every run of the demo decides alike."""
SUMMARY = "summary.json"
PAGE = "index.html"
RATES = "rates.json"
"""By step: how fast what is there was made. A run that finds a step done leaves what is known of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where the demo keeps things."""

    root: Path

    @property
    def delivery(self) -> Path:
        return self.root / "delivery"

    @property
    def corpus(self) -> Path:
        return self.root / "corpus"

    @property
    def run(self) -> Path:
        return self.root / "run"

    @property
    def page(self) -> Path:
        return self.root / "page"


def demo(
    *,
    workdir: Path = Path("demo"),
    config: Path = CONFIG,
    overrides: Annotated[tuple[str, ...], Parameter(name="--set")] = (),
    json: Annotated[bool, Parameter(negative="")] = False,
    engine: EngineOptions | None = None,
) -> None:
    """Build a corpus of 3,374 captioned emoji, train on it, and write a page of what the model draws.

    Example: pardalis demo --workdir demo --json

    Parameters
    ----------
    workdir
        Folder for the delivery, the corpus, the run and the page; a second run finds everything there.
    config
        TOML file of the run, or the name of a packaged one.
    overrides
        A line of TOML that wins over the file.
    json
        Print the summary as JSON.
    """
    began = time.monotonic()
    engine = engine or EngineOptions()
    places = Places(root=runs.folder(workdir).absolute())
    options = CorpusOptions(corpus=str(places.corpus), config=config, overrides=overrides, json=json)
    deliver(places)
    summary = made(places, options, engine)
    (places.page / SUMMARY).write_bytes(pretty(summary))
    page.write(places.page / PAGE, summary)
    say(f"demo       done in {clock(time.monotonic() - began)}")
    answer(summary, page.text(summary, places.page / PAGE), json=json)


def made(places: Places, options: CorpusOptions, engine: EngineOptions) -> dict[str, Any]:
    """The corpus, the model and what it draws, made or found; all that the page says."""
    with jobs.job("demo", Asked.of(options), engine, check=weights.check) as work:
        try:
            _, ingested = jobs.ingest_all(work, [str(places.delivery)], AS_OF)
            version, built = jobs.build_all(work)
        finally:
            keep_rates(places, step_rates(work.log.events))
        work.engine.close()  # the training group wants the CPUs that the pool still holds
        recipe = folder.settings(places.run, options, training.infos(work.corpus, version))
        training.train_version(
            work.corpus, version, recipe, places.run, workers=1, engine=engine, log=work.log
        )
    remember(places)
    facts = {"version": version.number, "as_of": version.as_of}
    steps = {"steps": {**ingested, **built}, "rates": known_rates(places)}
    return {**facts, **shown(places, work, version, recipe), **steps}


def deliver(places: Places) -> None:
    """Make the delivery from the two packages, once."""
    store = Store.at(places.delivery)
    if not store.exists("delivery.json"):
        say("delivery   fetching two npm packages and writing a delivery from them")
        emoji.deliver(store, emoji.fetched())


def remember(places: Places) -> None:
    """Let later commands find this corpus without being told."""
    LocalStore(str(cache_folder())).write(LAST_DEMO, str(places.corpus).encode())


def step_rates(events: list[dict[str, Any]]) -> dict[str, Any]:
    """Seconds and rows a second of the steps that ran; of those that were found, nothing."""
    return {
        event["step"]: {"seconds": event["seconds"], "rows_per_s": event["rows_per_s"]}
        for event in events
        if event["event"] == "step" and event["shards_made"]
    }


def known_rates(places: Places) -> dict[str, Any]:
    path = places.page / RATES
    return json_text.loads(path.read_text()) if path.exists() else {}


def keep_rates(places: Places, rates: dict[str, Any]) -> None:
    """Beside those of earlier runs; a step that ran again tells its newest."""
    LocalStore(str(places.page)).write(RATES, pretty({**known_rates(places), **rates}))


def shown(places: Places, work: jobs.Job, version: Version, recipe: TrainerConfig) -> dict[str, Any]:
    """What the model does, measured and drawn; found again where nothing changed."""
    name = fingerprint(
        exhibit.REVISION, folder.identity(version, recipe), recipe.sampler.model_dump(mode="json")
    )
    path = places.page / f"{name}.json"
    if not path.exists():
        made = exhibit.make(work.corpus, version, recipe, places.run)
        LocalStore(str(places.page)).write(path.name, pretty(made))
    found: dict[str, Any] = json_text.loads(path.read_text())
    return found
