"""``pipeline/packs.md`` is enough: what follows reads a corpus by that page, with nothing of ours."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import xxhash

from pipeline import shards
from pipeline.blocks import Blocks, Shard
from pipeline.pack import Document, PackConfig, Pair, lay_out
from pipeline.packed import Row, Via


# The reader, in 40 lines.
def read(corpus: Path, kind: str) -> Iterator[tuple[list[int], list[tuple[str, int, list[int]]]]]:
    """Ids of each row without its padding, and (uid, role, ids) of its spans."""
    version = json.loads(max(corpus.glob("versions/*.json")).read_text())
    manifest = json.loads((corpus / f"artifacts/pack/{version['artifacts']['pack']}.json").read_text())
    for slot, shard in sorted(manifest["shards"].items()):
        if slot.split("-", 1)[1].rsplit("-", 1)[0] != kind:
            continue
        for name, info in sorted(shard["facts"]["packs"].items()):
            data = (corpus / "shards/pack" / shard["key"] / name).read_bytes()
            assert info["format"] == 1
            assert data[:6] == b"ARROW1"
            schema = pa.ipc.open_file(data).schema
            for block in info["blocks"]:
                part = data[block["offset"] : block["offset"] + block["bytes"]]
                assert f"{xxhash.xxh3_64_intdigest(part):016x}" == block["xxh3"]
                yield from rows(pa.ipc.read_record_batch(pa.py_buffer(part), schema), info["context"] + 1)


def rows(batch: pa.RecordBatch, width: int) -> Iterator[tuple[list[int], list[tuple[str, int, list[int]]]]]:
    flat = np.frombuffer(batch["tokens"].flatten().buffers()[1], "<u2")
    first = batch["tokens"].flatten().offset
    for number, (used, spans) in enumerate(
        zip(batch["num_tokens"].to_pylist(), batch["spans"].to_pylist(), strict=True)
    ):
        row = flat[first + number * width : first + (number + 1) * width]
        assert not row[used:].any()
        told = [(s["uid"], s["role"], row[s["start"] : s["start"] + s["length"]].tolist()) for s in spans]
        yield row[:used].tolist(), told


def row(number: int) -> Row:
    found = []
    for place in range(1 + number % 3):
        pairs = tuple(
            Pair(
                uid=f"a:{number}-{place}-{of}",
                revision=0,
                text_ids=np.arange(number % 5, dtype=np.uint16),
                code_ids=np.arange(4, dtype=np.uint16) + of,
                via=Via.NOTHING,
            )
            for of in range(2)
        )
        found.append(lay_out(Document(example_id=f"e{number}-{place}", pairs=pairs)))
    return tuple(found)


def test_a_reader_that_knows_only_the_page_reads_the_same_tokens(tmp_path: Path) -> None:
    written = [row(number) for number in range(30)]
    config = PackConfig(context=63, max_spans=1, block_rows=4, shard_bytes=8192)
    packs, listed = {}, []
    for number, (data, info) in enumerate(shards.write(written, config, fingerprint="f")):
        path = tmp_path / "shards/pack/k" / f"{number:05d}.arrow"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        packs[path.name] = info
        listed.append(Shard.file(path, info))
    assert len(packs) > 1
    shard = {"key": "k", "facts": {"packs": packs}}
    for name, value in (
        ("versions/000001.json", {"artifacts": {"pack": "a"}}),
        ("artifacts/pack/a.json", {"shards": {"00000-train-00000": shard}}),
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(json.dumps(value))
    found = list(read(tmp_path, "train"))
    assert [ids for ids, _ in found] == [np.concatenate([d.ids for d in one]).tolist() for one in written]
    blocks = Blocks(listed, keep=4)
    ours = [ids for number in range(len(blocks)) for ids in blocks.block(number).tokens_RT]
    assert [ids for ids, _ in found] == [
        mine[: len(ids)].tolist() for (ids, _), mine in zip(found, ours, strict=True)
    ]
    spans = [
        (s.uid, int(s.role), len(d.ids[s.start : s.start + s.length]))
        for one in written
        for d in one
        for s in d.spans
    ]
    assert [(uid, role, len(ids)) for _, told in found for uid, role, ids in told] == spans
    assert not list(read(tmp_path, "validation"))


def test_the_page_names_every_fact_and_column() -> None:
    page = (Path(shards.__file__).parent / "packs.md").read_text()
    for name in (*shards.ShardInfo.__annotations__, *shards.BlockInfo.__annotations__):
        assert f"`{name}`" in page, name
    for field in shards.schema(context=8, fingerprint="f"):
        assert f"| `{field.name}` |" in page
    assert f"format {shards.FORMAT}" in page
