"""How well the offline encoder finds what belongs together, on pairs that its projection never saw.

The emoji of the demo and Debian's openclipart, each a corpus of its own: ingested, filtered, deduplicated,
split, aligned on the training split, and judged on the validation split. ``text to image`` ranks the pictures
for each caption, ``image to text`` the captions for each picture; beside every recall stands that of a random
order.

``documents`` asks as training does, with a caption or a picture that lost a fifth of its tokens, and ranks
whole documents by their picture's vector, their caption's, or the mean of the two that the index holds. Asked
with a caption, the caption's own vector knows the answer nearly by heart, and the other way round: what
counts is that the mean is good for both. Corpora are kept in PARDALIS_BENCH.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from infra.corpus import Corpus
from infra.storage import Store
from pipeline import embed, refs, rows, schema, tables
from pipeline.embed import EMBEDDINGS
from pipeline.reading import CONFIGS
from pipeline.split import VALIDATION
from pipeline.step import ROWS
from retrieval.align import document_vectors
from retrieval.recall import paired
from retrieval.segments import Floats
from tests.benchmarks import photographs

AT = (1, 5, 10)
AS_OF = "2026-06-01T00:00:00Z"
SETTINGS = ("pipeline.split.validation = 0.1", "tokenizer.image.fit.steps = 1")
"""A tenth to judge by. Tokens are made, since they come before, by a model that was not trained."""


def run() -> dict[str, Any]:
    told = {name: judged(corpus_of(name)) for name in ("emoji", "openclipart")}
    first = told["emoji"]["text to image"]
    return {
        "unit": "recall@10, caption to picture, held out",
        "ours": first["recall"][10],
        "peer": first["chance"][10],
        "peer_name": "a random order",
        "ratio": round(first["recall"][10] / first["chance"][10], 1),
        "details": told,
    }


def corpus_of(name: str) -> Corpus:
    """Built up to the queries, once."""
    folder = photographs.folder() / f"pairs-{name}"
    corpus = Corpus(Store.at(folder / "corpus"))
    if not corpus.numbers() or "queries" not in corpus.newest().artifacts:
        words = [
            "--corpus",
            str(folder / "corpus"),
            "--config",
            str(CONFIGS / "demo.toml"),
            "--engine",
            "inline",
        ]
        words += [word for setting in SETTINGS for word in ("--set", setting)]
        if not (folder / "delivery" / "delivery.json").exists():
            called("contract", "example", name, str(folder / "delivery"))
        called("ingest", str(folder / "delivery"), "--as-of", AS_OF, *words)
        called("build", "--to", "queries", *words)
    return corpus


def called(*words: str) -> None:
    subprocess.run([str(Path(sys.executable).with_name("pardalis")), *words], check=True)


def judged(corpus: Corpus) -> dict[str, Any]:
    (images_ND, texts_ND), (dropped_images_ND, dropped_texts_ND) = held_out(corpus)
    documents = {
        "image vectors": images_ND,
        "text vectors": texts_ND,
        "mean vectors": document_vectors(images_ND, texts_ND),
    }
    asked = {"a caption": dropped_texts_ND, "a picture": dropped_images_ND}
    return {
        "text to image": recalls(texts_ND, images_ND),
        "image to text": recalls(images_ND, texts_ND),
        "documents": {
            f"{kind}, asked with {query} less a fifth": recalls(queries_ND, vectors_ND)
            for kind, vectors_ND in documents.items()
            for query, queries_ND in asked.items()
        },
    }


def held_out(corpus: Corpus) -> tuple[tuple[Floats, Floats], tuple[Floats, Floats]]:
    """Of the validation split: vectors of pictures and captions, whole and after dropout, in one order."""
    version = corpus.newest()
    parts = {name: corpus.artifact(version, name).shards for name in ("split", "embed", "queries")}
    slots = sorted(parts["split"])
    kept = pa.concat_tables([rows.kept(refs.of(corpus.store, parts["split"][slot], ROWS)) for slot in slots])
    uids = kept.filter(pc.equal(kept[schema.SPLIT.name], VALIDATION))[schema.UID.name]
    found = []
    for name in ("embed", "queries"):
        table = pa.concat_tables(
            [tables.read_ipc(refs.of(corpus.store, parts[name][slot], EMBEDDINGS)) for slot in slots]
        )
        found.append(embed.vectors(table.take(pc.index_in(uids, table[schema.UID.name]))))
    return found[0], found[1]


def recalls(queries_ND: Floats, vectors_ND: Floats) -> dict[str, Any]:
    told = paired(queries_ND, vectors_ND, at=AT)
    return {
        "recall": {k: round(told.recall_at[k], 4) for k in AT},
        "chance": {k: round(told.chance_at(k), 4) for k in AT},
        "median_rank": told.median_rank,
        "pairs": told.num_pairs,
    }
