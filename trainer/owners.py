"""Whose an item is: who is paid for it, and the licences that admit it.

An asset has one contributor and perhaps several licences. The surprising rule: what was derived, as pictures
of instruction examples are, is everybody's of whose assets it was made, and counts once for each of them,
however many of these are his. All assets of an example count for all that was derived in it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from infra.corpus import Corpus, Version
from pipeline import refs, schema, shards, tables
from pipeline.outcomes import KEPT
from pipeline.reviewing import catalogs
from pipeline.step import ROWS
from trainer.instruct import build as instruct
from trainer.instruct import listing
from trainer.instruct.world import DERIVED
from trainer.passing import Packed

UNKNOWN = "unknown"
"""In place of an account that no catalog tells: of a licence, where the asset is admitted no more."""
NOBODY = "nobody"
"""In place of all accounts where something was made of no asset, as lettered signs are."""

ERASED = "erased"
"""In place of all accounts of what was taken back: packs do not name it any more. Several such in a document
count as one.
"""

OF_NONE = frozenset({UNKNOWN, NOBODY, ERASED})
"""Lines of the tables that are no account."""


@dataclass(frozen=True, slots=True)
class Owners:
    """Accounts, written PROVIDER:ID."""

    pairs: frozenset[tuple[str, str]]
    """Of contributor and licence."""

    @property
    def contributors(self) -> frozenset[str]:
        return frozenset(contributor for contributor, _ in self.pairs)

    @property
    def licenses(self) -> frozenset[str]:
        return frozenset(license_ for _, license_ in self.pairs)


NONE = Owners(frozenset({(NOBODY, NOBODY)}))
LOST = Owners(frozenset({(UNKNOWN, UNKNOWN)}))
GONE = Owners(frozenset({(ERASED, ERASED)}))


@dataclass(frozen=True, slots=True, kw_only=True)
class Register:
    """The owners of all uids that occur in a version's packs."""

    assets: Mapping[str, Owners]
    num_kept: Mapping[Owners, int]
    """Of the assets that the version holds."""
    derived: Mapping[str, frozenset[str]]
    """Of what was derived, by its uid, the assets that it was made of."""

    @classmethod
    def of(cls, corpus: Corpus, version: Version, packed: Packed | None = None) -> Self:
        """By the version's catalog, with what was derived for these packs.

        Raises ``FileNotFoundError`` where the catalog is gone.
        """
        assets: dict[str, Owners] = {}
        kept: Counter[Owners] = Counter()
        same: dict[Owners, Owners] = {}  # assets share accounts, and a million of them share few
        columns = [schema.UID, schema.LICENSES, schema.CONTRIBUTOR, schema.OUTCOME]
        step = next(name for name in catalogs.STEPS if name in version.artifacts)
        for shard in corpus.artifact(version, step).shards.values():
            for row in tables.read_parquet(refs.of(corpus.store, shard, ROWS), columns).to_pylist():
                uid, licenses, contributor, outcome = (row[column.name] for column in columns)
                owners = owners_of(uid.partition(":")[0], licenses, contributor)
                owners = same.setdefault(owners, owners)
                if outcome == KEPT:
                    kept[owners] += 1
                    assets[uid] = owners
                else:  # perhaps a revision that another one put out of date
                    assets.setdefault(uid, owners)
        is_instruct = packed is not None and packed.artifact.step == instruct.STEP
        derived = listing.sources_of(corpus.store, packed.artifact) if packed and is_instruct else {}
        return cls(assets=assets, num_kept=kept, derived=derived)

    def of_uid(self, uid: str) -> Owners:
        if uid == shards.NOBODY:
            return GONE
        if not uid.startswith(DERIVED):
            return self.assets.get(uid, LOST)
        made_of = self.derived.get(uid)
        if made_of is None:
            return LOST
        found = [self.assets.get(one, LOST).pairs for one in made_of]
        return Owners(frozenset[tuple[str, str]]().union(*found)) if found else NONE


def owners_of(provider: str, licenses: list[str] | None, contributor: str) -> Owners:
    named = [f"{provider}:{name}" for name in licenses or ()] or [UNKNOWN]
    return Owners(frozenset((f"{provider}:{contributor}", name) for name in named))
