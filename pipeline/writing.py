"""The commands that write a corpus: ``ingest`` and ``build``.

The surprising rule: the work is imported after the settings were validated. Its libraries take seconds, and
whoever mistyped a setting should not wait for them.
"""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from infra.corpus import NoCorpus
from infra.options import CorpusOptions, EngineOptions, answer
from pipeline import settings
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
    options: CorpusOptions | None = None,
    engine: EngineOptions | None = None,
) -> None:
    """Make whatever is missing, from filters to packed token shards.

    Example: pardalis build --to index --corpus s3://bucket/corpus --address 10.0.0.1:6379

    Parameters
    ----------
    to
        Last step to run; default all of them.
    """
    options, engine = options or CorpusOptions(), engine or EngineOptions()
    asked = validated(options)
    from pipeline import jobs  # noqa: PLC0415

    facts, text = jobs.build(asked, to, engine)
    answer(facts, text, json=options.json)


def validated(options: CorpusOptions) -> Asked:
    """The corpus, with settings that are right."""
    asked = Asked.of(options)
    settings.check(asked.told)
    return asked
