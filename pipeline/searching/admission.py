"""Which members a grant may see now: the licences of their kinds, less what is revoked.

The surprising rule: it is now that decides, and not the day of the build. A licence that has ended since, or
was taken back a moment ago, shows nothing more, and one that begins tomorrow does so without a build. What is
decided holds until a licence begins or ends, or a revocation is loaded.
"""

from __future__ import annotations

import bisect
import functools
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np

from pipeline import credit, rights
from pipeline.contract import License
from pipeline.grants import NOTICE, Case, Purpose
from pipeline.searching.holdings import Holdings, Licenses
from pipeline.searching.standing import Standing
from retrieval.serving.admission import Admitted, Grant, Rows

KEPT, PREPARED = 64, 8
"""Purposes beside the tokens' own that are kept decided, 3 MB each of a million members; and how many of
these are decided anew before a revocation stands, 8 ms each."""
Key = tuple[Grant, Standing, int]
"""The last is how many of the instants at which a licence begins or ends are past."""


@dataclass(slots=True, kw_only=True)
class Admission:
    """What stands is swapped as one; whoever asks while it is has the one or the other."""

    holdings: Holdings
    purpose: Purpose
    """The corpus's own: its model, and the contracts that prevail."""
    now: Callable[[], datetime]
    standing: Standing
    own: frozenset[Grant]
    """Those of tokens: what callers narrow them to never takes their place."""
    _instants: Sequence[datetime] = field(init=False)
    _made: OrderedDict[Key, Admitted] = field(default_factory=OrderedDict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._instants = sorted({*instants(self.holdings.licenses)})

    def admit(self, grant: Grant) -> Admitted:
        return self._admitted(grant, self.standing)

    def prepare(self, standing: Standing) -> None:
        """Decide for those who asked before, so that nobody waits for it once it stands."""
        with self._lock:
            asked = dict.fromkeys(grant for grant, *_ in reversed(self._made))
        narrowed = [grant for grant in asked if grant not in self.own]
        for grant in [*(grant for grant in asked if grant in self.own), *narrowed[:PREPARED]]:
            self._admitted(grant, standing)

    def load(self, standing: Standing) -> None:
        """From here on."""
        self.standing = standing
        with self._lock:
            self._made = OrderedDict((key, made) for key, made in self._made.items() if key[1] is standing)

    def _admitted(self, grant: Grant, standing: Standing) -> Admitted:
        now = self.now()
        key = (grant, standing, bisect.bisect_right(self._instants, now))
        with self._lock:
            found = self._made.get(key)
            if found is not None:
                self._made.move_to_end(key)
                return found
        found = admitted(self.holdings, standing, purposed(self.purpose, grant), now)
        with self._lock:
            self._made[key] = found
            narrowed = [made for made in self._made if made[0] not in self.own]
            for oldest in narrowed[: max(0, len(narrowed) - KEPT)]:
                del self._made[oldest]
        return found


def instants(licenses: Licenses) -> Iterator[datetime]:
    """At which what a licence admits may change."""
    for record in (record for known in licenses.values() for record in known.values()):
        yield record.valid_from
        if record.valid_until is not None:
            yield from (record.valid_until, record.valid_until - NOTICE)
        if record.revoked_at is not None:
            yield record.revoked_at


def purposed(corpus: Purpose, grant: Grant) -> Purpose:
    """The corpus's purpose, with the uses and the places of the grant."""
    territory = grant.territory if isinstance(grant.territory, str) else tuple(sorted(grant.territory))
    told = {"uses": tuple(sorted(grant.uses)), "territory": territory, "commercial": False}
    return corpus.model_copy(update=told)


def admitted(holdings: Holdings, standing: Standing, purpose: Purpose, now: datetime) -> Admitted:
    cases = [
        Case(
            asset=kind.asset,
            licenses=holdings.licenses[kind.asset.provider],
            purpose=purpose,
            as_of=now,
            revoked=standing.of_licenses,
            signals=kind.signals,
        )
        for kind in holdings.kinds
    ]
    records = [rights.admitting(case) for case in cases]
    shown_K = np.array([bool(found) for found in records], np.bool_)
    found_K = np.array([rights.may_be_neighbor(case) for case in cases], np.bool_)
    shown_N = shown_K[holdings.kinds_N] & ~standing.removed_N
    found_N = found_K[holdings.kinds_N] & holdings.indexed_N & ~standing.withdrawn_N
    for use, ended_N in standing.restricted.items():
        if use in purpose.needed:
            shown_N &= ~ended_N
        if use == "retrieval_index":
            found_N &= ~ended_N
    return Admitted(
        shown_N=shown_N,
        found_N=found_N & shown_N,
        kinds_N=holdings.kinds_N,
        licenses=[tuple(record.license_id for record in found) for found in records],
        credits=functools.partial(owed, holdings=holdings, records=records),
    )


def owed(rows: Rows, *, holdings: Holdings, records: Sequence[Sequence[License]]) -> list[str]:
    kinds = holdings.kinds_N[rows].tolist()
    pairs = zip(holdings.facts(rows), kinds, strict=True)
    return [credit.owed(facts, records[kind]) for facts, kind in pairs]
