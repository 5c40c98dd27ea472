"""Pictures of the corpus on the page: found by words, and shown to whom their licences let them be shown.

The surprising rule: the model may see neighbors that a caller may not. Their uid, their credit and their
score are told, since the drawing owes them; their picture and their words are not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from infra.serving.callers import Caller
from infra.serving.refusal import Refusal
from pipeline.searching.library import Found
from pipeline.searching.service import Service
from retrieval.serving import results
from retrieval.serving.admission import Admitted
from trainer.studio import Studio

MAX_FOUND = 24
DERIVED = frozenset({"derived_captions"})
"""What a licence must grant beside, for pictures to be made of an asset."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """By caller, and by what stands now. May be asked from any thread."""

    service: Service
    studio: Studio
    thumbnail: Callable[[int], bytes]

    def admitted(self, caller: Caller) -> Admitted:
        return self.service.admission.admit(self.service.grants(caller))

    def row(self, caller: Caller, uid: str) -> int:
        """Unknown, taken back and not for this caller are not told apart."""
        row = self.service.catalogue.uids.row(uid)
        if row is None or not self.admitted(caller).shown_N[row]:
            raise Refusal(404, "no such asset is shown to you", value=uid, fix="choose another picture")
        return row

    def may_see(self, caller: Caller, uid: str) -> bool:
        return self._is_shown(uid, self.admitted(caller))

    def _is_shown(self, uid: str, admitted: Admitted) -> bool:
        row = self.service.catalogue.uids.row(uid)
        return row is not None and bool(admitted.shown_N[row])

    def changed(self, caller: Caller, uid: str) -> int:
        """422 too, where no licence lets pictures be made of it, as ``pardalis instruct make`` makes none."""
        row = self.row(caller, uid)
        derived = self.service.grants(caller).narrowed(DERIVED, None)
        if not self.service.admission.admit(derived).shown_N[row]:
            fix = "choose a picture whose licence grants derived_captions, or bring one of your own"
            raise Refusal(422, "no licence lets this picture be changed", value=uid, fix=fix)
        return row

    def small(self, caller: Caller, uid: str) -> bytes:
        """A JPEG."""
        return self.thumbnail(self.row(caller, uid))

    def image(self, caller: Caller, uid: str) -> bytes:
        """The stored training image."""
        return self.service.shelf.image(self.row(caller, uid))

    def search(self, caller: Caller, words: str, k: int) -> list[dict[str, Any]]:
        """The assets nearest to the words that may be found and shown, the best first."""
        catalogue, admitted = self.service.catalogue, self.admitted(caller)
        library = self.studio.library
        ids = catalogue.ids_N[admitted.found_N]
        if not len(ids):
            return []
        near = library.searcher.index.search_subset(library.query(text=words), min(k, len(ids)), ids)
        rows = catalogue.rows(near.ids[0])
        return results.as_objects(results.ranked(catalogue, rows, np.asarray(near.scores[0]), admitted))

    def neighbors(self, caller: Caller, words: str, k: int) -> list[dict[str, Any]]:
        """What the model would be shown for the words."""
        return self._neighbors(caller, self.studio.neighbors(words, k))

    def alike(self, caller: Caller, picture: bytes, k: int) -> list[dict[str, Any]]:
        """What the model would be shown for a picture of ours: nothing that the caller may not see."""
        found = self._neighbors(caller, self.studio.alike(self.studio.square(picture), k))
        return [one for one in found if one["shown"]]

    def _neighbors(self, caller: Caller, found: Sequence[Found]) -> list[dict[str, Any]]:
        admitted = self.admitted(caller)
        return [self._neighbor(one, admitted) for one in found]

    def _neighbor(self, found: Found, admitted: Admitted) -> dict[str, Any]:
        shown = self._is_shown(found.uid, admitted)
        return {
            "uid": found.uid,
            "score": found.score,
            "licenses": list(found.licenses),
            "attribution": found.attribution,
            "description": found.description if shown else "",
            "shown": shown,
        }

    def told(self, caller: Caller, found: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Neighbors that were used, as this caller may see them."""
        admitted = self.admitted(caller)
        return [self._neighbor(Found(**one), admitted) for one in found]
