"""What licences and revocations let an evaluation use, show and change now.

The surprising rule: it is now that decides, as on the search page, and not the day of the build. What is
taken back is no item and stands beside none, as if it had never been in the corpus.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from infra.corpus import Corpus, Version
from pipeline import deciding
from pipeline.refused import Held
from trainer.studio import Studio


@dataclass(frozen=True, slots=True, kw_only=True)
class Rights:
    """Assets by uid, of those in the index; what is not in it is in none of these."""

    refused: frozenset[str]
    """May not be used."""
    unshown: frozenset[str]
    """May not be displayed."""
    underived: frozenset[str]
    """Nothing may be made of it."""

    @classmethod
    def read(cls, corpus: Corpus, version: Version) -> Rights:
        """Raises ``ValueError`` if the revocations of the newest version cannot be read."""
        own = deciding.purpose_of(corpus, version)
        derived = own.model_copy(update={"uses": (*own.uses, "derived_captions")})
        now = datetime.now(UTC)
        held = Held.read(corpus, version, now)
        gone = held.refused(own, now)
        return cls(
            refused=gone,
            unshown=held.undisplayed(own, now),
            underived=gone | held.refused(derived, now),
        )

    def key(self) -> list[list[str]]:
        """What the name of a kept result has of it."""
        return [sorted(one) for one in (self.refused, self.unshown, self.underived)]

    def may_use(self, uids: Iterable[str]) -> bool:
        return self.refused.isdisjoint(uids)

    def may_derive(self, uids: Iterable[str]) -> bool:
        """Whether pictures may be made of all of these."""
        return self.underived.isdisjoint(uids)


def without(studio: Studio, gone: Collection[str]) -> Studio:
    """The studio with no tokens of these assets, which are no neighbors of it either."""
    tokens = {uid: one for uid, one in studio.tokens.items() if uid not in gone}
    return replace(studio, tokens=tokens)
