"""From what is asked to what replicas are asked: which ids may answer, for this caller and now."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from infra.serving.refusal import Refusal
from retrieval.index import MAX_K
from retrieval.serving import subsets
from retrieval.serving.admission import Admitted, Grant, Rows
from retrieval.serving.asking import Asked, Like
from retrieval.serving.catalogue import Catalogue, Where
from retrieval.serving.queries import Given, Named, Picture, Query, Words
from retrieval.serving.subsets import Subset

NONE = np.zeros(0, np.int64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A search that is understood."""

    grant: Grant
    asked: Asked
    eligible: int
    """Members that may answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Planner:
    """By the members of one version."""

    catalogue: Catalogue
    subset: Callable[[Admitted, Where], Subset]
    """That remembers."""

    def plan(self, query: Query, grant: Grant, admitted: Admitted) -> Plan:
        """Raises :class:`Refusal` for an asset that this caller is not shown."""
        subset, without = self._among(query, admitted)
        asked = Asked(
            parts=tuple(self._part(part, admitted) for part in query.parts),
            weights=query.weights,
            k=query.k,
            among=subset.among,
            without=tuple(self.catalogue.ids_N[without].tolist()),
        )
        return Plan(grant=grant, asked=asked, eligible=subset.count - len(without))

    def shown(self, uid: str, admitted: Admitted) -> int:
        """The row of a member; unknown, revoked and not for this caller are not told apart."""
        row = self.catalogue.uids.row(uid)
        if row is None or not admitted.shown_N[row]:
            fix = "it may be unknown, taken back, or not for the uses and places of your token"
            raise Refusal(404, "no such asset is shown to you", value=uid, fix=fix)
        return row

    def _part(
        self, part: Words | Picture | Given | Named, admitted: Admitted
    ) -> Words | Picture | Given | Like:
        if not isinstance(part, Named):
            return part
        row = self.shown(part.uid, admitted)
        if not admitted.found_N[row]:
            fix = "search by its picture or its words instead"
            raise Refusal(422, "the asset's licences keep it out of the index", value=part.uid, fix=fix)
        return Like(int(self.catalogue.ids_N[row]))

    def _among(self, query: Query, admitted: Admitted) -> tuple[Subset, Rows]:
        """What may answer, and which rows of it may not after all: what is asked for, and its duplicates."""
        subset = self.subset(admitted, query.where)
        named = [self.shown(part.uid, admitted) for part in query.parts if isinstance(part, Named)]
        alike = np.concatenate([NONE, *map(self.catalogue.duplicates, named)])
        alike = alike[subset.mask_N[alike]]
        # Asked for beside the others and then left out, so that one set of ids serves many searches.
        if query.k + len(alike) <= MAX_K:
            return subset, alike
        mask_N = subset.mask_N.copy()
        mask_N[alike] = False
        return subsets.of(self.catalogue, mask_N), NONE
