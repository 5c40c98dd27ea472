"""The commands that write a corpus: ``ingest`` and ``build``.

The surprising rule: the work is imported after the settings were validated. Its libraries take seconds, and
whoever mistyped a setting should not wait for them.
"""

from __future__ import annotations

import time
from typing import Annotated

from cyclopts import Parameter

from infra.corpus import NoCorpus
from infra.options import CorpusOptions, EngineOptions, ReadOptions, answer
from pipeline import settings
from pipeline.scale.command import OnOptions
from pipeline.settings import Asked


def ingest(
    *delivery: str,
    check: Annotated[bool, Parameter(negative="")] = False,
    as_of: str | None = None,
    options: CorpusOptions | None = None,
    engine: EngineOptions | None = None,
) -> None:
    """Fold deliveries into a corpus: check them, decide rights, and store what is admitted.

    Example: pardalis ingest /data/delivery-0007 --corpus s3://bucket/corpus

    Parameters
    ----------
    delivery
        Folder or s3:// address of a delivery. None decides again, for another instant.
    check
        Read and decide everything, tell what would change, and write nothing. Runs in this process.
    as_of
        Instant at which licences and revocations are judged, UTC; default now.
    """
    options, engine = options or CorpusOptions(), engine or EngineOptions()
    if check:
        checked(delivery, as_of, options)
        return
    asked = validated(options)
    if not delivery and not asked.corpus.numbers():
        raise NoCorpus(f"{options.address()} holds no corpus yet; name a delivery to begin one with")
    from pipeline import jobs  # noqa: PLC0415

    facts, text = jobs.ingest(asked, delivery, as_of, engine)
    answer(facts, text, json=options.json)


def checked(deliveries: tuple[str, ...], as_of: str | None, options: CorpusOptions) -> None:
    """Deliveries can be checked before there is any corpus."""
    try:
        asked = Asked.of(options)
    except NoCorpus:
        if not deliveries:
            raise
        corpus, told = None, settings.by_file(options)
    else:
        corpus, told = asked.corpus, asked.told
        if not deliveries:
            asked.corpus.newest()
    settings.check(told)
    from pipeline import jobs  # noqa: PLC0415

    facts, text = jobs.check(corpus, told, deliveries, as_of)
    answer(facts, text, json=options.json)


def build(
    *,
    to: str | None = None,
    dry_run: Annotated[bool, Parameter(negative="")] = False,
    on: OnOptions | None = None,
    options: CorpusOptions | None = None,
    engine: EngineOptions | None = None,
) -> None:
    """Make whatever is missing, from filters to packed token shards.

    Example: pardalis build --to index --corpus s3://bucket/corpus --address 10.0.0.1:6379

    Parameters
    ----------
    to
        Last step to run; default all of them.
    dry_run
        Tell what would run, in how many shards, and what it would take; write nothing.
    """
    options, engine = options or CorpusOptions(), engine or EngineOptions()
    if on is not None and not dry_run:
        raise ValueError(
            "--cluster, --nodes and --rates are of a forecast; give --dry-run, or leave them out"
        )
    asked = validated(options)
    if dry_run:
        from pipeline.scale import foresight  # noqa: PLC0415

        facts, text = foresight.told(asked, to, on or OnOptions())
        answer(facts, text, json=options.json)
        return
    from pipeline import jobs  # noqa: PLC0415

    facts, text = jobs.build(asked, to, engine)
    answer(facts, text, json=options.json)


def add(
    *delivery: str,
    as_of: str | None = None,
    options: CorpusOptions | None = None,
    engine: EngineOptions | None = None,
) -> None:
    """Bring deliveries into the index, as a segment of their own: ``ingest``, and ``build --to index``.

    Example: pardalis index add /data/delivery-0008 --corpus s3://bucket/corpus

    Parameters
    ----------
    delivery
        Folder or s3:// address of a delivery.
    as_of
        Instant at which licences and revocations are judged, UTC; default now.
    """
    options, engine = options or CorpusOptions(), engine or EngineOptions()
    if not delivery:
        raise ValueError("nothing is added; name a delivery")
    asked = validated(options)
    from pipeline import jobs  # noqa: PLC0415

    ingested, text = jobs.ingest(asked, delivery, as_of, engine)
    built, more = jobs.build(asked, "index", engine)
    answer({"ingest": ingested, "build": built}, f"{text}\n{more}", json=options.json)


def remove(*uid: str, reason: str = "", options: ReadOptions | None = None) -> None:
    """Take assets out of the index: no search and no new neighbor list names them, and nothing is rewritten.

    The next build drops their vectors. They stay in the training data: see the README on taking back.

    Example: pardalis index remove emoji:1f34e --reason "asked for by its maker"

    Parameters
    ----------
    uid
        Assets, as PROVIDER:ASSET_ID.
    reason
        Kept with the removal.
    """
    options = options or ReadOptions()
    if not uid:
        raise ValueError("nothing is removed; name assets as PROVIDER:ASSET_ID")
    from pipeline import withdrawn  # noqa: PLC0415

    corpus, began = options.open(), time.perf_counter()
    with corpus.writing(purpose="pardalis index remove") as lease:
        head = corpus.newest()
        version = corpus.publish(lease, head, withdrawn.withdraw(corpus, head, uid, reason))
    facts = {
        "version": version.number,
        "removed": sorted(set(uid)),
        "tombstones": len(withdrawn.uids(corpus.store, version)),
        "seconds": round(time.perf_counter() - began, 3),
    }
    text = f"version {version.number}: removed {len(set(uid))} in {facts['seconds']} s"
    answer(facts, text, json=options.json)


def validated(options: CorpusOptions) -> Asked:
    """The corpus, with settings that are right."""
    asked = Asked.of(options)
    settings.check(asked.told)
    return asked
