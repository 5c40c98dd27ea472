"""Who may see what: the purpose that a token is for, and the members that it lets be shown.

The surprising rule: which licence admits what is decided elsewhere. A function is handed in, :data:`Admit`,
that answers for one purpose and for now; here it is asked before a search, and again when its answer is put
together.

Legend: N members, in the order of their ids.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from infra.serving.refusal import Refusal

Mask = NDArray[np.bool_]
Rows = NDArray[np.int64]
Territory = frozenset[str] | Literal["worldwide"]
"""ISO 3166-1 codes, or everywhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """What a caller's token is for."""

    uses: frozenset[str]
    territory: Territory

    def narrowed(self, uses: frozenset[str], territory: frozenset[str] | None) -> Grant:
        """For more uses at once, and for fewer places; 403 for places that are not the token's."""
        if territory is None:
            return Grant(uses=self.uses | uses, territory=self.territory)
        if self.territory != "worldwide" and not territory <= self.territory:
            foreign = ", ".join(sorted(territory - self.territory))
            fix = f"leave where.territory out, or give some of {', '.join(sorted(self.territory))}"
            raise Refusal(403, "the token is for other places", value=foreign, fix=fix)
        return Grant(uses=self.uses | uses, territory=territory)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Admitted:
    """What one grant may see, as of one instant. Never changed: what is revoked makes another."""

    shown_N: Mask
    found_N: Mask
    """May be shown, and searched for."""
    kinds_N: NDArray[np.int32]
    """Members with the same rights have the same number."""
    licenses: Sequence[tuple[str, ...]]
    """By kind: under which its members are shown; none where they are not."""
    credits: Callable[[Rows], Sequence[str]]
    """That are owed for rows that are shown; empty where none is."""

    def licensed(self, wanted: frozenset[str]) -> Mask:
        """Those that are shown under one of the licences."""
        kinds = np.array([not wanted.isdisjoint(names) for names in self.licenses], np.bool_)
        return np.asarray(kinds[self.kinds_N] & self.shown_N, np.bool_)

    def license_counts(self) -> Counter[str]:
        """How many of those that may be shown each licence admits."""
        members = np.bincount(self.kinds_N[self.shown_N], minlength=len(self.licenses)).tolist()
        found: Counter[str] = Counter()
        for names, num in zip(self.licenses, members, strict=True):
            found.update(dict.fromkeys(names, num))
        return +found


Admit = Callable[[Grant], Admitted]
"""Of now: with all that is revoked. Asked from threads, and cheap when it was asked before."""
