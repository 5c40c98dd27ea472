"""Ask the index: nearest assets to a text, to an image, or to both, with their licences beside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
from cyclopts import Parameter
from numpy.typing import NDArray

from infra.corpus import Corpus, Version
from infra.options import ReadOptions, answer
from pipeline import archive, refs, schema, tables
from pipeline.embed import PROJECTION, EncoderConfig, load_encoder
from pipeline.indexing import MEMBERS, SEGMENT
from pipeline.reading import validated
from pipeline.rows import kept
from pipeline.step import IMAGES, ROWS
from retrieval import align, encoders
from retrieval.index import Index
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
    """A version's index, opened: what is needed to ask it and to show what it answers."""

    index: Index
    encoder: encoders.Encoder
    projection: align.Projection
    side: int
    members: dict[int, dict[str, Any]]
    """Facts of every member by id."""
    rows: dict[str, dict[str, Any]]
    """Catalog rows of every kept asset by uid."""
    tars: dict[str, refs.Ref]
    """The images tar of every kept asset by uid."""

    def query(self, *, text: str | None = None, image: bytes | None = None) -> NDArray[np.float32]:
        """The query's vector [1, D]; of text and image both, the mean, as documents are made."""
        vectors = []
        if text is not None:
            vectors.append(self.projection.texts(self.encoder.text_features([text])))
        if image is not None:
            pixels = sizes.fit_square(images.decode(image), self.side)[None]
            vectors.append(self.projection.images(self.encoder.image_features(pixels)))
        if not vectors:
            raise ValueError("nothing is asked; give --text, --image, or both")
        return encoders.normalised(np.mean(vectors, axis=0))

    def nearest(
        self, query_1D: NDArray[np.float32], k: int, *, where: str, without: Sequence[str] = ()
    ) -> list[Found]:
        """The ``k`` best vectors for which the column ``where`` holds, none of the groups ``without``."""
        allowed = [
            id_
            for id_, facts in self.members.items()
            if facts[schema.MAY_BE_NEIGHBOR.name] and facts[where] and facts["group"] not in without
        ]
        found = self.index.search_subset(query_1D, k, np.asarray(allowed, np.int64))
        return [
            self.found(int(id_), float(score))
            for id_, score in zip(found.ids[0], found.scores[0], strict=True)
        ]

    def found(self, id_: int, score: float) -> Found:
        row = self.rows[self.members[id_]["uid"]]
        return Found(
            uid=row["uid"],
            score=round(score, 4),
            description=row["description"],
            group=row["group"],
            licenses=tuple(row["licenses"]),
            attribution=row["attribution"],
        )

    def image(self, uid: str) -> bytes:
        """The stored training image."""
        return archive.images(self.tars[uid].read())[self.rows[uid]["key"]]


def encoder_of(corpus: Corpus, version: Version) -> EncoderConfig:
    """The encoder that made the index's vectors, whatever the configuration says now."""
    artifact = corpus.artifact(version, "features")
    return validated(EncoderConfig, artifact.settings, corpus.store.where(f"features {artifact.key}"))


def open_library(corpus: Corpus, version: Version) -> Library:
    config = encoder_of(corpus, version)
    segments = sorted(corpus.artifact(version, "index").shards.items())
    members = pa.concat_tables(
        [tables.read_parquet(refs.of(corpus.store, shard, MEMBERS)) for _, shard in segments]
    )
    rows: dict[str, dict[str, Any]] = {}
    tars: dict[str, refs.Ref] = {}
    images = corpus.artifact(version, "images").shards
    for slot, shard in corpus.artifact(version, "split").shards.items():
        table = kept(refs.of(corpus.store, shard, ROWS))
        for row in table.drop_columns([schema.STRUCTURE.name, schema.TINT.name]).to_pylist():
            rows[row["uid"]] = row
            tars[row["uid"]] = refs.of(corpus.store, images[slot], IMAGES)
    projection = refs.of(corpus.store, corpus.artifact(version, "align").only, PROJECTION)
    return Library(
        index=Index.open([refs.of(corpus.store, shard, SEGMENT).read() for _, shard in segments]),
        encoder=load_encoder(config),
        projection=align.Projection.of(projection.read()),
        side=config.side,
        members={row["id"]: row for row in members.to_pylist()},
        rows=rows,
        tars=tars,
    )


def query(
    *,
    text: str | None = None,
    image: Path | None = None,
    k: Annotated[int, Parameter(name=("-k", "--k"))] = 10,
    options: ReadOptions | None = None,
) -> None:
    """Find the nearest assets that may be shown, by text, by image, or by both.

    Example: pardalis index query --text "red fruit" -k 5

    Parameters
    ----------
    text
        Words to look for.
    image
        Picture to look for: JPEG, PNG or WebP.
    k
        How many answers.
    """
    options = options or ReadOptions()
    corpus = options.open()
    version = corpus.newest()
    library = open_library(corpus, version)
    vector = library.query(text=text, image=image.read_bytes() if image else None)
    found = library.nearest(vector, k, where=schema.MAY_BE_SHOWN.name)
    lines = [
        f"{one.score:.3f}  {one.uid:<32} {one.description:<32} {', '.join(one.licenses)}" for one in found
    ]
    answer([vars_of(one) for one in found], "\n".join(lines), json=options.json)


def vars_of(found: Found) -> dict[str, Any]:
    return {name: getattr(found, name) for name in Found.__slots__}


def stats(*, options: ReadOptions | None = None) -> None:
    """Show the index's segments: members, those that are in the index, and those that may be shown.

    Example: pardalis index stats --json
    """
    options = options or ReadOptions()
    corpus = options.open()
    shards = sorted(corpus.artifact(corpus.newest(), "index").shards.items())
    found = []
    for name, shard in shards:
        members = tables.read_parquet(refs.of(corpus.store, shard, MEMBERS))
        counts = {
            column.name: sum(members[column.name].to_pylist())
            for column in (schema.MAY_BE_NEIGHBOR, schema.MAY_BE_SHOWN)
        }
        found.append(
            {"segment": name, "members": members.num_rows, "bytes": shard.files[SEGMENT].size, **counts}
        )
    text = "\n".join(" ".join(f"{key}={value}" for key, value in one.items()) for one in found)
    answer(found, text, json=options.json)
