from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.artifact import Corrupt
from pipeline import shards
from pipeline.blocks import Blocks, Shard
from pipeline.pack import PackConfig
from pipeline.packed import Laid, Modality, Role, Row, Span, Via
from pipeline.shards import ShardInfo
from tokenizer_service import vocabulary

CONFIG = PackConfig(context=31, max_spans=2, block_rows=4)

SPAN = st.builds(
    Span,
    start=st.integers(0, 4),
    length=st.integers(0, 5),
    modality=st.sampled_from(Modality),
    role=st.sampled_from(Role),
    uid=st.text(max_size=5),
    revision=st.integers(0, 2**31 - 1),
    via=st.sampled_from(Via),
)
LAID = st.builds(
    Laid,
    example_id=st.text(max_size=5),
    ids=st.lists(st.integers(1, vocabulary.SIZE - 1), min_size=1, max_size=10).map(
        lambda ids: np.array(ids, np.uint16)
    ),
    spans=st.lists(SPAN, max_size=4).map(tuple),
    continues=st.booleans(),
)
ROWS = st.lists(st.lists(LAID, max_size=3).map(tuple), max_size=11)


def laid(number: int) -> Laid:
    ids = np.arange(number + 1, number + 11, dtype=np.uint16)
    span = Span(
        start=1,
        length=8,
        modality=Modality.IMAGE,
        role=Role.TARGET,
        uid=f"a:{number}",
        revision=1,
        via=Via.NOTHING,
    )
    return Laid(example_id=f"e{number}", ids=ids, spans=(span,))


def stored(folder: Path, rows: list[Row], config: PackConfig) -> list[Shard]:
    written = []
    for number, (data, info) in enumerate(shards.write(rows, config, fingerprint="f")):
        path = folder / f"{number}.arrow"
        path.write_bytes(data)
        written.append(Shard.file(path, json.loads(json.dumps(info))))
    return written


def opened(packs: list[Shard]) -> Blocks:
    return Blocks(packs, keep=8)


def read_back(packs: list[Shard]) -> list[Row]:
    """Rows from the columns, by the format's own words."""
    rows: list[Row] = []
    blocks = opened(packs)
    for number in range(len(blocks)):
        for row in blocks.block(number).record.to_pylist():
            assert set(row["tokens"][row["num_tokens"] :]) <= {vocabulary.PAD}
            documents = [
                Laid(
                    example_id=d["example_id"],
                    ids=np.array(row["tokens"][d["start"] : d["start"] + d["length"]], np.uint16),
                    spans=tuple(
                        Span(
                            start=s["start"] - d["start"],
                            length=s["length"],
                            modality=Modality(s["modality"]),
                            role=Role(s["role"]),
                            uid=s["uid"],
                            revision=s["revision"],
                            via=Via(s["via"]),
                        )
                        for s in row["spans"]
                        if s["document"] == i
                    ),
                    continues=d["continues"],
                )
                for i, d in enumerate(row["documents"])
            ]
            rows.append(tuple(documents))
    return rows


def comparable(rows: list[Row]) -> list[list[tuple[object, ...]]]:
    return [[(d.example_id, d.ids.tolist(), d.spans, d.continues) for d in row] for row in rows]


@given(rows=ROWS)
def test_rows_come_back_as_they_were_written(
    rows: list[Row], tmp_path_factory: pytest.TempPathFactory
) -> None:
    packs = stored(tmp_path_factory.mktemp("shards"), rows, CONFIG)
    assert comparable(read_back(packs)) == comparable(rows)
    assert sum(shard.info["documents"] for shard in packs) == sum(len(row) for row in rows)
    assert sum(shard.info["tokens"] for shard in packs) == sum(len(d.ids) for row in rows for d in row)


@given(rows=ROWS)
def test_the_layout_of_a_row_is_that_of_its_columns(
    rows: list[Row], tmp_path_factory: pytest.TempPathFactory
) -> None:
    blocks = opened(stored(tmp_path_factory.mktemp("shards"), rows, CONFIG))
    for number in range(len(blocks)):
        block = blocks.block(number)
        for r, row in enumerate(block.record.to_pylist()):
            documents_D2, spans_S5 = block.layout(r)
            assert block.tokens_RT[r].tolist() == row["tokens"]
            assert documents_D2.tolist() == [[d["start"], d["length"]] for d in row["documents"]]
            names = ("document", "start", "length", "modality", "role")
            assert spans_S5.tolist() == [[s[name] for name in names] for s in row["spans"]]


def given_and_asked(given: str, asked: str) -> Laid:
    """An instruction example: a picture of one asset, and the answer of another."""
    first = laid(1).spans[0]
    spans = (
        replace(first, length=4, role=Role.GIVEN, uid=given),
        replace(first, start=6, length=3, role=Role.TARGET, uid=asked),
    )
    return replace(laid(1), spans=spans)


@pytest.mark.parametrize("gone", ["given", "asked"])
def test_whatever_of_an_instruction_example_is_taken_back_its_document_goes(
    gone: str, tmp_path: Path
) -> None:
    blocks = opened(stored(tmp_path, [(laid(2), given_and_asked("given", "asked"))], CONFIG))
    without = blocks.block(0).without({gone})
    assert without.tokens_RT[0, :10].tolist() == laid(2).ids.tolist()
    assert not without.tokens_RT[0, 10:].any()


def test_any_arrow_reader_opens_a_shard(tmp_path: Path) -> None:
    stored(tmp_path, [(laid(number),) for number in range(10)], CONFIG)
    table = pa.ipc.open_file(tmp_path / "0.arrow").read_all()
    assert table.schema.names == ["tokens", "num_tokens", "documents", "spans"]
    assert [len(batch) for batch in table.to_batches()] == [4, 4, 2]
    facts = json.loads(table.schema.metadata[b"pardalis"])
    assert facts["context"] == 31
    assert facts["modality"] == ["text", "image"]
    assert facts["role"] == ["target", "neighbor", "given"]


def test_tokens_are_a_view_of_the_file(tmp_path: Path) -> None:
    blocks = opened(stored(tmp_path, [(laid(number),) for number in range(5)], CONFIG))
    before = pa.total_allocated_bytes()
    tokens_RT = blocks.block(0).tokens_RT
    assert tokens_RT.shape == (4, 32)
    assert not tokens_RT.flags.owndata
    assert not tokens_RT.flags.writeable
    assert pa.total_allocated_bytes() <= before  # less, where garbage of an earlier test goes


def test_a_view_outlives_its_shard_and_no_file_stays_open(tmp_path: Path) -> None:
    tokens_RT = opened(stored(tmp_path, [(laid(7),)], CONFIG)).block(0).tokens_RT
    links = [str(link.readlink()) for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
    assert not any(str(tmp_path) in link for link in links)
    assert tokens_RT[0, :10].tolist() == list(range(8, 18))


def one_shard(rows: int) -> tuple[bytes, ShardInfo]:
    (found,) = shards.write([(laid(number),) for number in range(rows)], CONFIG, fingerprint="f")
    return found


@given(data=st.data())
def test_a_flipped_bit_in_a_block_is_detected_and_named(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    whole, info = one_shard(6)
    number = data.draw(st.integers(0, 1))
    place = info["blocks"][number]
    at = data.draw(st.integers(place["offset"], place["offset"] + place["bytes"] - 1))
    damaged = bytearray(whole)
    damaged[at] ^= 1 << data.draw(st.integers(0, 7))
    path = tmp_path_factory.mktemp("damaged") / "packs.arrow"
    path.write_bytes(damaged)
    blocks = opened([Shard.file(path, info)])
    with pytest.raises(Corrupt, match=f"block {number} of .*packs.arrow"):
        blocks.block(number)
    assert blocks.block(1 - number).tokens_RT.shape[1] == 32


def test_a_block_is_verified_only_when_it_is_first_touched(tmp_path: Path) -> None:
    whole, info = one_shard(6)
    path = tmp_path / "packs.arrow"
    path.write_bytes(whole)
    blocks = Blocks([Shard.file(path, info)], keep=1)
    blocks.block(0)
    blocks.block(1)
    with path.open("r+b") as file:
        file.seek(info["blocks"][0]["offset"] + info["blocks"][0]["bytes"] - 1)
        file.write(b"\xff")
    assert blocks.block(0).tokens_RT.shape == (4, 32)
    with pytest.raises(Corrupt, match="block 0"):
        opened([Shard.file(path, info)]).block(0)


def test_a_shard_of_another_size_or_format_is_refused(tmp_path: Path) -> None:
    whole, info = one_shard(3)
    path = tmp_path / "packs.arrow"
    path.write_bytes(whole[:-1])
    with pytest.raises(Corrupt, match=f"has {len(whole) - 1} bytes, its manifest says {len(whole)}"):
        opened([Shard.file(path, info)]).block(0)
    other: ShardInfo = {**info, "format": 9}
    with pytest.raises(ValueError, match="has format 9"):
        opened([Shard.file(path, other)])


def test_shards_stay_below_their_limit_and_keep_the_order() -> None:
    config = PackConfig(context=31, block_rows=4, shard_bytes=8192)
    rows: list[Row] = [(laid(number),) for number in range(100)]
    written = list(shards.write(rows, config, fingerprint="f"))
    assert len(written) > 2
    assert all(len(data) == info["bytes"] <= 8192 for data, info in written)
    assert all(block["rows"] == 4 for _, info in written for block in info["blocks"])
    assert sum(info["rows"] for _, info in written) == 100


def test_a_block_larger_than_a_shard_is_refused() -> None:
    config = PackConfig(context=4224, block_rows=4, shard_bytes=8192)
    with pytest.raises(ValueError, match="lower block_rows from 4"):
        list(shards.write([(laid(number),) for number in range(4)], config, fingerprint="f"))


def test_a_row_longer_than_the_context_is_refused() -> None:
    with pytest.raises(ValueError, match="a row of 40 tokens, which begins with document e0"):
        list(shards.write([tuple(laid(number) for number in range(4))], CONFIG, fingerprint="f"))


SCRIPT = """
import hashlib, sys
sys.path.insert(0, sys.argv[1])
from test_shards import one_shard
print(hashlib.sha256(one_shard(9)[0]).hexdigest())
"""


@pytest.mark.long
def test_another_process_writes_the_same_bytes() -> None:
    command = [sys.executable, "-c", SCRIPT, str(Path(__file__).parent)]
    run = subprocess.run(command, capture_output=True, check=True, text=True)
    assert run.stdout.strip() == hashlib.sha256(one_shard(9)[0]).hexdigest()
