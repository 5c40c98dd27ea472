"""``pardalis packs export``: packed rows in the formats of other loaders, for those who have them already.

MDS carries the spans of each row beside its tokens, so that every token still names its asset; litdata's
``TokensLoader`` knows tokens alone. The surprising rule: nobody takes anything back from a copy. What is
revoked by now is blanked in it; what is revoked later is not, so export again.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from infra.artifact import pretty
from infra.options import ReadOptions, answer
from infra.storage import Store
from infra.telemetry import Bar
from pipeline import packs, refused
from pipeline.blocks import Blocks
from pipeline.examples import KINDS
from pipeline.shards import Block

INDEX = "index.json"
"""Written last: a folder without it is no data set to either reader."""
NOTE = "pardalis.json"
"""Where the copy comes from; readers pass over it."""


def export(
    out: str,
    *,
    format: Literal["mds", "litdata"],  # noqa: A002  # its name on the command line
    kind: str = KINDS[0],
    options: ReadOptions | None = None,
) -> None:
    """Write packed rows for mosaicml-streaming (MDS) or for litdata's TokensLoader.

    Example: pardalis packs export /data/mds --format mds

    Parameters
    ----------
    out
        An empty folder, or s3://BUCKET/PREFIX.
    format
        mds: columns tokens, num_tokens and spans. litdata: tokens.
    kind
        train, validation (held-out targets with neighbors) or validation-alone.
    """
    if kind not in KINDS:
        raise ValueError(f"--kind {kind}: there are {', '.join(KINDS)}")
    options = options or ReadOptions()
    corpus, target = options.open(), Store.at(out)
    if target.names():
        raise ValueError(f"{target.uri} is not empty; name another folder, or empty it")
    version = corpus.newest()
    revoked = refused.uids(corpus, version)
    listed = packs.listed(corpus, version, kind, revoked=revoked)
    if not listed:
        raise ValueError(f"version {version.number} of {corpus.store.uri} has no {kind} packs")
    blocks = Blocks(listed, keep=1)
    blocks.expect(range(len(blocks)))
    width = listed[0].info["context"] + 1
    note = {
        "corpus": corpus.store.uri,
        "version": version.number,
        "vocabulary": listed[0].info["vocabulary"],
        "blanked_assets": len(revoked),
    }
    bar = Bar("export", total=len(blocks), unit="blocks")
    files = []
    for number in range(len(blocks)):
        name, data, facts = FORMATS[format](blocks.block(number), number)
        target.write(name, data)
        files.append(facts)
        bar.advance(1)
    blocks.close()
    target.write(NOTE, pretty(note))
    target.write(INDEX, pretty(INDEXES[format](files)))
    rows = sum(shard.info["rows"] for shard in listed)
    told = {"out": target.uri, "format": format, "rows": rows, "width": width, **note}
    answer(
        told, f"{target.uri}: {rows} rows of {width} tokens, of version {version.number}", json=options.json
    )


def mds(block: Block, number: int) -> tuple[str, bytes, dict[str, Any]]:
    """A shard of mosaicml-streaming: samples with offsets before them, columns in the order of names."""
    width = block.tokens_RT.shape[1]
    name = f"shard.{number:05d}.mds"
    config = {
        "version": 2,
        "format": "mds",
        "compression": None,
        "hashes": [],
        "size_limit": None,
        "column_names": ["num_tokens", "spans", "tokens"],
        "column_encodings": ["int", "json", f"ndarray:uint16:{width}"],
        "column_sizes": [8, None, 2 * width],
    }
    head = json.dumps(config, sort_keys=True).encode()
    samples = []
    columns = (block.record["num_tokens"].to_pylist(), block.record["spans"].to_pylist(), block.tokens_RT)
    for num_tokens, spans, tokens_T in zip(*columns, strict=True):
        told = json.dumps(spans).encode()
        samples.append(
            np.uint32(len(told)).tobytes() + np.int64(num_tokens).tobytes() + told + tokens_T.tobytes()
        )
    begin = 4 * (len(samples) + 2) + len(head)
    data = b"".join((np.uint32(len(samples)).tobytes(), offsets(samples, begin), head, *samples))
    raw = {"basename": name, "bytes": len(data), "hashes": {}}
    return name, data, {**config, "raw_data": raw, "zip_data": None, "samples": len(samples)}


def litdata(block: Block, number: int) -> tuple[str, bytes, dict[str, Any]]:
    """A chunk of litdata: items with offsets before them; an item is a row."""
    name = f"chunk-0-{number}.bin"
    samples = [tokens_T.tobytes() for tokens_T in block.tokens_RT]
    begin = 4 * (len(samples) + 2)
    data = b"".join((np.uint32(len(samples)).tobytes(), offsets(samples, begin), *samples))
    facts = {
        "chunk_bytes": len(data),
        "chunk_size": len(samples),
        "dim": block.tokens_RT.size,
        "filename": name,
    }
    return name, data, facts


def offsets(samples: Sequence[bytes], begin: int) -> bytes:
    """Where each sample begins, and where the last ends."""
    return np.cumsum([begin, *map(len, samples)]).astype("<u4").tobytes()


def mds_index(shards: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {"version": 2, "shards": list(shards)}


def litdata_index(chunks: Sequence[dict[str, Any]]) -> dict[str, Any]:
    config = {
        "chunk_bytes": None,
        "chunk_size": max(chunk["chunk_size"] for chunk in chunks),
        "compression": None,
        "data_format": [f"no_header_tensor:{LITDATA_UINT16}"],
        "data_spec": json.dumps([1, {"type": None, "context": None, "children_spec": []}]),
        "encryption": None,
        "item_loader": "TokensLoader",
    }
    return {"chunks": list(chunks), "config": config}


LITDATA_UINT16 = 20
"""Place of ``torch.uint16`` in litdata's list of types (0.2.76)."""
FORMATS = {"mds": mds, "litdata": litdata}
INDEXES = {"mds": mds_index, "litdata": litdata_index}
