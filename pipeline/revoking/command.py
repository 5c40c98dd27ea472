"""``pardalis revoke`` and ``pardalis gc``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from infra.options import CorpusOptions, EngineOptions, answer
from pipeline.writing import validated


def revoke(
    *,
    revocations: Path | None = None,
    as_of: str | None = None,
    packs: Literal["blank", "rebuild"] = "blank",
    dry_run: Annotated[bool, Parameter(negative="")] = False,
    options: CorpusOptions | None = None,
    engine: EngineOptions | None = None,
) -> None:
    """Take assets back: nobody serves them from now on, and the newest version holds nothing of them.

    Before it, `pardalis ledger` tells whose they were, and `pardalis verify --collect` what to look for
    afterwards: neither can be told later.

    Example: pardalis revoke --revocations revocations.jsonl --corpus s3://bucket/corpus

    Parameters
    ----------
    revocations
        Records as `pardalis contract template revocation` shows them, one a line. Without it, what the corpus
        was told before is carried out; so are licences that were revoked, or whose term has ended and takes
        the data with it (after_term), and records that say they are revoked.
    as_of
        Instant at which revocations and licences are judged, UTC; default now.
    packs
        blank: tokens are overwritten in place, and a run that reads the packs goes on in the same order.
        rebuild: pack anew, as a build without these assets would.
    dry_run
        Say what would be touched, and write nothing.
    """
    options, engine = options or CorpusOptions(), engine or EngineOptions()
    asked = validated(options)
    from pipeline.revoking import planning, taking  # noqa: PLC0415  # torch

    told = [] if revocations is None else taking.read(revocations)
    if dry_run:
        facts, text = planning.planned(asked, told, as_of, packs=packs)
    else:
        facts, text = taking.revoke(asked, told, as_of, engine, packs=packs)
    answer(facts, text, json=options.json)


def gc(
    *, dry_run: Annotated[bool, Parameter(negative="")] = False, options: CorpusOptions | None = None
) -> None:
    """Erase what no version lists: what was taken back, and what builds left behind.

    Example: pardalis gc --corpus s3://bucket/corpus

    Parameters
    ----------
    dry_run
        Say how much, and erase nothing.
    """
    options = options or CorpusOptions()
    asked = validated(options)
    from pipeline.revoking import taking  # noqa: PLC0415  # torch

    found = taking.swept(asked, dry_run=dry_run)
    verb = "would erase" if dry_run else "erased"
    answer(found.facts(), f"{verb} {found.files} files, {found.bytes / 1e6:.1f} MB", json=options.json)
