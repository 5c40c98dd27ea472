"""Ask the index: nearest assets to a text, to an image, or to both, with their licences beside them."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import numpy as np
import pyarrow.compute as pc
from cyclopts import Parameter

from infra.options import ReadOptions, answer
from pipeline import deciding, refs, refused, schema, tables, withdrawn
from pipeline.indexing import MEMBERS
from pipeline.searching.library import open_library


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
    gone = refused.uids(corpus, version, refused.displaying(deciding.purpose_of(corpus, version)))
    found = library.nearest(vector, k, where=schema.MAY_BE_SHOWN, refused=gone)
    lines = [
        f"{one.score:.3f}  {one.uid:<32} {one.description:<32} {', '.join(one.licenses)}" for one in found
    ]
    answer([asdict(one) for one in found], "\n".join(lines), json=options.json)


def stats(*, options: ReadOptions | None = None) -> None:
    """Show the index's segments: their layout and measured recall, members, and what may be shown.

    Example: pardalis index stats --json
    """
    options = options or ReadOptions()
    corpus = options.open()
    version = corpus.newest()
    gone = withdrawn.tombstones(corpus.store, version)
    found = []
    for name, shard in sorted(corpus.artifact(version, "index").shards.items()):
        members = tables.read_ipc(refs.of(corpus.store, shard, MEMBERS))
        counts = {
            column.name: pc.sum(members[column.name]).as_py() or 0
            for column in (schema.MAY_BE_NEIGHBOR, schema.MAY_BE_SHOWN)
        }
        removed = int(np.isin(np.asarray(members[schema.ID.name]), gone).sum())
        facts = {"segment": name, **shard.facts, "members": members.num_rows, **counts, "removed": removed}
        found.append(facts)
    text = "\n".join(" ".join(f"{key}={value}" for key, value in one.items()) for one in found)
    answer(found, text, json=options.json)
