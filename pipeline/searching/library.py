"""A version's index opened in this process: what is needed to ask it and to show what it answers.

``folder`` is that of a corpus of drawn shapes:

    >>> corpus = Corpus(Store.at(folder))
    >>> library = open_library(corpus, corpus.newest())
    >>> query_1D = library.query(text="a red circle, number 0")
    >>> found = library.nearest(query_1D, 3, where=schema.MAY_BE_SHOWN)
    >>> len(found), found[0].description, found[0].licenses
    (3, 'a red circle, number 0', ('acme-data-2026',))
    >>> like_it = library.query(image=library.image(found[0].uid))
    >>> others = library.nearest(like_it, 3, where=schema.MAY_BE_SHOWN, without=[found[0].group])
    >>> found[0].uid in [one.uid for one in others]
    False
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from infra.corpus import Corpus, Version
from pipeline import schema
from pipeline.searching import members, opening
from pipeline.searching.shelf import Shelf
from retrieval.searching import Searcher, mixed
from retrieval.segments import Floats
from retrieval.serving.catalogue import whole
from retrieval.serving.lookup import Lookup
from tokenizer_service import images, sizes


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """An asset that answers a query."""

    uid: str
    score: float
    """Cosine between the query and the document's vector."""
    description: str
    group: str
    licenses: tuple[str, ...]
    attribution: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Library:
    searcher: Searcher
    members: pa.Table
    """In the order of ids, as of :mod:`members`."""
    uids: Lookup
    shelf: Shelf

    def query(self, *, text: str | None = None, image: bytes | None = None) -> Floats:
        """The query's vector [1, D]; of text and image both, the mean, as documents are made."""
        vectors = []
        if text is not None:
            vectors.append(self.searcher.texts([text]))
        if image is not None:
            pixels = sizes.square(images.decode(image), self.searcher.side)[None]
            vectors.append(self.searcher.images(pixels))
        if not vectors:
            raise ValueError("nothing is asked; give --text, --image, or both")
        return mixed(np.concatenate(vectors), [1.0] * len(vectors))[None]

    def nearest(
        self,
        query_1D: Floats,
        k: int,
        *,
        where: pa.Field,
        without: Sequence[str] = (),
        refused: Collection[str] = (),
    ) -> list[Found]:
        """The ``k`` best vectors for which the column ``where`` held when the version was built, none of the
        groups ``without``, and none of the assets that are ``refused`` now.
        """
        allowed = pc.and_(self.members[schema.MAY_BE_NEIGHBOR.name], self.members[where.name])
        groups = self.members[schema.GROUP.name]
        uids = self.members[schema.UID.name]
        barred = pc.or_(
            pc.is_in(groups, value_set=pa.array(without, groups.type)),
            pc.is_in(uids, value_set=pa.array(sorted(refused), uids.type)),
        )
        ids_N = np.asarray(self.members[schema.ID.name])
        ids = ids_N[np.asarray(pc.and_not(allowed, barred))]
        found = self.searcher.index.search_subset(query_1D, k, ids)
        rows = np.searchsorted(ids_N, found.ids[0]).tolist()
        return [self.found(row, float(score)) for row, score in zip(rows, found.scores[0], strict=True)]

    def found(self, row: int, score: float) -> Found:
        facts = self._facts(row)
        return Found(
            uid=facts["uid"],
            score=round(score, 4),
            description=facts["description"],
            group=facts["group"],
            licenses=tuple(facts["licenses"]),
            attribution=facts["attribution"],
        )

    def facts(self, uid: str) -> dict[str, Any] | None:
        """The columns of a member, if there is such."""
        row = self.uids.row(uid)
        return None if row is None else self._facts(row)

    def image(self, uid: str) -> bytes:
        """The stored training image."""
        row = self.uids.row(uid)
        if row is None:
            raise ValueError(f"{uid} is no member of the index; write it as PROVIDER:ASSET_ID")
        return self.shelf.image(row)

    def _facts(self, row: int) -> dict[str, Any]:
        (found,) = self.members.slice(row, 1).to_pylist()
        return dict(found)


def open_library(corpus: Corpus, version: Version, table: pa.Table | None = None) -> Library:
    """``table``: the members, where they are read already."""
    table = members.read(corpus, version) if table is None else table
    return Library(
        searcher=opening.searcher(1, of=opening.files(corpus, version)),
        members=table,
        uids=Lookup.of(whole(table[schema.UID.name])),
        shelf=Shelf.of(corpus, version, table),
    )
