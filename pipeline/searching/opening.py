"""An index opened where it lies, with the encoder that made its vectors: by a command, or in a replica."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from infra.artifact import Corrupt
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
    shards = sorted(corpus.artifact(version, "index").shards.items())
    return Files(
        segments=tuple(refs.of(corpus.store, shard, SEGMENT) for _, shard in shards),
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
        index=Index.open([checked(ref) for ref in of.segments], of.tombstones, threads=threads),
        encoder=load_encoder(of.encoder),
        projection=Projection.of(of.projection.read()),
        side=of.encoder.side,
    )


def checked(ref: refs.Ref) -> Path:
    """A file to map into memory, which all replicas of a machine share; its bytes were checked."""
    path = ref.local()
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != ref.sha256:
        told = f"sha256 {found[:16]}…, its manifest says {ref.sha256[:16]}…"
        raise Corrupt(f"{path}, of {ref.store.where(ref.name)}, has {told}; delete it")
    return path
