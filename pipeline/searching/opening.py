"""An index opened where it lies, with the encoder that made its vectors: by a command, or in a replica."""

from __future__ import annotations

from dataclasses import dataclass

from infra.corpus import Corpus, Version
from pipeline import refs, withdrawn
from pipeline.embed import PROJECTION, EncoderConfig, load_encoder
from pipeline.indexing import SEGMENT
from pipeline.reading import validated
from retrieval.align import Projection
from retrieval.index import Index
from retrieval.searching import Searcher
from retrieval.segments import Ids


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """What an index is opened from: names and hashes, which travel to a replica."""

    segments: tuple[refs.Ref, ...]
    tombstones: Ids
    projection: refs.Ref
    encoder: EncoderConfig


def files(corpus: Corpus, version: Version) -> Files:
    shards = [shard for _, shard in sorted(corpus.artifact(version, "index").shards.items())]
    return Files(
        segments=refs.each(corpus.store, shards, SEGMENT),
        tombstones=withdrawn.tombstones(corpus.store, version),
        projection=refs.of(corpus.store, corpus.artifact(version, "align").only, PROJECTION),
        encoder=encoder_of(corpus, version),
    )


def encoder_of(corpus: Corpus, version: Version) -> EncoderConfig:
    """The encoder that made the index's vectors, whatever the configuration says now."""
    artifact = corpus.artifact(version, "features")
    return validated(EncoderConfig, artifact.settings, corpus.store.where(f"features {artifact.key}"))


def searcher(threads: int, *, of: Files) -> Searcher:
    return Searcher(
        index=Index.open([ref.mapped() for ref in of.segments], of.tombstones, threads=threads),
        encoder=load_encoder(of.encoder),
        projection=Projection.of(of.projection.read()),
        side=of.encoder.side,
    )
