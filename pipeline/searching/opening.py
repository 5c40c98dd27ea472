"""An index opened where it lies, with the encoder that made its vectors: by a command, or in a replica."""

from __future__ import annotations

from dataclasses import dataclass, replace

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
    sizes: tuple[int, ...]
    """In bytes of memory, of each segment: without the vectors that stay on disk."""
    tombstones: Ids
    projection: refs.Ref
    encoder: EncoderConfig


def files(corpus: Corpus, version: Version) -> Files:
    shards = [shard for _, shard in sorted(corpus.artifact(version, "index").shards.items())]
    return Files(
        segments=refs.each(corpus.store, shards, SEGMENT),
        sizes=tuple(shard.facts.get("resident", shard.files[SEGMENT].size) for shard in shards),
        tombstones=withdrawn.tombstones(corpus.store, version),
        projection=refs.of(corpus.store, corpus.artifact(version, "align").only, PROJECTION),
        encoder=encoder_of(corpus, version),
    )


def sharded(of: Files, shards: int) -> list[Files]:
    """The same in so many, about equal by the bytes of their segments. ValueError with fewer segments."""
    if shards > len(of.segments):
        raise ValueError(
            f"--shards {shards}: the index has {len(of.segments)} segments, and none is divided; ask for "
            "fewer shards, or build it with a smaller retrieval.index.memory_mib"
        )
    mine: list[list[int]] = [[] for _ in range(shards)]
    for place in sorted(range(len(of.segments)), key=lambda place: -of.sizes[place]):
        min(mine, key=lambda held: sum(of.sizes[one] for one in held)).append(place)
    return [
        replace(
            of,
            segments=tuple(of.segments[place] for place in held),
            sizes=tuple(of.sizes[place] for place in held),
        )
        for held in map(sorted, mine)
    ]


def encoder_of(corpus: Corpus, version: Version) -> EncoderConfig:
    """The encoder that made the index's vectors, whatever the configuration says now."""
    artifact = corpus.artifact(version, "features")
    return validated(EncoderConfig, artifact.settings, corpus.store.where(f"features {artifact.key}"))


def searcher(threads: int, *, of: Files) -> Searcher:
    return Searcher(
        index=Index.open(refs.Ref.each_mapped(of.segments), of.tombstones, threads=threads, gpus=True),
        encoder=load_encoder(of.encoder),
        projection=Projection.of(of.projection.read()),
        side=of.encoder.side,
    )
