"""The packed-shard format, stated once: the writer and the reader stand side by side.

A shard is an uncompressed Arrow IPC file whose record batches are blocks of at most ``block_rows`` rows; the
schema below is the whole layout. :class:`ShardInfo` goes into the artifact's manifest and says where each
block lies and what it hashes to. The surprising rule: the reader does not trust the file's footer; it finds a
block by the manifest, hashes its bytes, and only then parses them.

Shapes: R rows of a block, T = context + 1 tokens of a row, D documents, S spans.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import accumulate, islice
from pathlib import Path
from typing import Any, Self, TypedDict

import numpy as np
import pyarrow as pa
import xxhash
from numpy.typing import NDArray

from infra.artifact import Corrupt
from pipeline.pack import PackConfig
from pipeline.packed import Modality, Role, Row, Via
from pipeline.schema import column
from tokenizer_service import vocabulary
from tokenizer_service.vocabulary import Ids

FORMAT = 1


class BlockInfo(TypedDict):
    offset: int
    bytes: int
    rows: int
    xxh3: str


class _Facts(TypedDict):
    context: int
    max_spans: int
    """Spans that masking may cut from each document of a row without overflowing it."""
    vocabulary: str
    """Fingerprint of the tokenizers that made the ids."""


class ShardInfo(_Facts):
    """What the manifest says of a shard; JSON."""

    format: int
    rows: int
    documents: int
    tokens: int
    bytes: int
    blocks: list[BlockInfo]


def _required(**kinds: pa.DataType) -> list[pa.Field]:
    return [pa.field(name, kind, nullable=False) for name, kind in kinds.items()]


def _list(kind: pa.DataType, *size: int) -> pa.DataType:
    return pa.list_(pa.field("item", kind, nullable=False), *size)


DOCUMENT = pa.struct(
    _required(start=pa.int32(), length=pa.int32(), example_id=pa.string(), continues=pa.bool_())
)
SPAN = pa.struct(
    _required(
        document=pa.int32(),
        start=pa.int32(),
        length=pa.int32(),
        modality=pa.uint8(),
        role=pa.uint8(),
        uid=pa.string(),
        revision=pa.int32(),
        via=pa.uint8(),
    )
)
SPAN_FACTS = [field.name for field in SPAN if field.name != "document"]


def schema(*, context: int, fingerprint: str) -> pa.Schema:
    """Starts are tokens of the row. Enumerations are numbers; the schema's metadata names them."""
    names = {
        kind.__name__.lower(): [member.name.lower() for member in kind] for kind in (Modality, Role, Via)
    }
    facts = {"format": FORMAT, "context": context, "vocabulary": fingerprint, **names}
    return pa.schema(
        [
            column("tokens", _list(pa.uint16(), context + 1), "ids; <pad> behind the last document"),
            column("num_tokens", pa.int32(), "tokens before the padding"),
            column("documents", _list(DOCUMENT), "end to end from position 0"),
            column("spans", _list(SPAN), "every text and image, in order; document counts in the row"),
        ],
        metadata={"pardalis": json.dumps(facts, sort_keys=True)},
    )


def _starts(row: Row, num_tokens: int) -> list[int]:
    *starts, end = accumulate((len(document.ids) for document in row), initial=0)
    if end > num_tokens:
        raise ValueError(
            f"a row of {end} tokens, which begins with document {row[0].example_id}, does not fit "
            f"{num_tokens}; pack with the context that you write with"
        )
    return starts


def _placed(row: Row, starts: list[int]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Values of ``documents`` and of ``spans``."""
    documents = [
        {"start": s, "length": len(d.ids), "example_id": d.example_id, "continues": d.continues}
        for s, d in zip(starts, row, strict=True)
    ]
    spans = [
        {
            "document": number,
            **{name: getattr(span, name) for name in SPAN_FACTS},
            "start": start + span.start,
        }
        for number, start in enumerate(starts)
        for span in row[number].spans
    ]
    return documents, spans


def _record(rows: tuple[Row, ...], layout: pa.Schema) -> pa.RecordBatch:
    tokens, num_tokens, documents, spans = layout.types
    tokens_RT = np.full((len(rows), tokens.list_size), vocabulary.PAD, np.uint16)
    placed = []
    for row, tokens_T in zip(rows, tokens_RT, strict=True):
        starts = _starts(row, tokens.list_size)
        for start, document in zip(starts, row, strict=True):
            tokens_T[start : start + len(document.ids)] = document.ids
        placed.append(_placed(row, starts))
    columns = [
        pa.FixedSizeListArray.from_arrays(pa.array(tokens_RT.reshape(-1)), type=tokens),
        pa.array([sum(len(document.ids) for document in row) for row in rows], num_tokens),
        pa.array([found for found, _ in placed], documents),
        pa.array([found for _, found in placed], spans),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=layout)


def write(rows: Iterable[Row], config: PackConfig, *, fingerprint: str) -> Iterator[tuple[bytes, ShardInfo]]:
    """Shards of at most ``shard_bytes``, in the order of the rows; the same rows make the same bytes.

    ``fingerprint`` names the tokenizers that made the ids.
    """
    layout = schema(context=config.context, fingerprint=fingerprint)
    facts = _Facts(context=config.context, max_spans=config.max_spans, vocabulary=fingerprint)
    room = config.shard_bytes - len(_serialised([], layout)[0])
    pending: list[pa.RecordBatch] = []
    left = room
    for block in _blocks(rows, layout, config.block_rows):
        size = pa.ipc.get_record_batch_size(block) + FOOTER_BLOCK_BYTES
        if size > room:
            raise ValueError(
                f"a block of {block.num_rows} rows takes {size} bytes and a shard has room for {room}; lower "
                f"block_rows from {config.block_rows} or raise shard_bytes"
            )
        if size > left:
            yield _shard(pending, layout, facts)
            pending, left = [], room
        pending.append(block)
        left -= size
    if pending:
        yield _shard(pending, layout, facts)


FOOTER_BLOCK_BYTES = 24
"""A footer names each block in 24 bytes (Arrow columnar format, File.fbs)."""


def _blocks(rows: Iterable[Row], layout: pa.Schema, block_rows: int) -> Iterator[pa.RecordBatch]:
    remaining = iter(rows)
    while block := tuple(islice(remaining, block_rows)):
        yield _record(block, layout)


def _serialised(blocks: list[pa.RecordBatch], layout: pa.Schema) -> tuple[bytes, list[int]]:
    """The file, and where each block ends."""
    sink = pa.BufferOutputStream()
    ends: list[int] = []
    with pa.ipc.new_file(sink, layout) as writer:
        for block in blocks:
            writer.write_batch(block)
            ends.append(sink.tell())
    return sink.getvalue().to_pybytes(), ends


def _shard(blocks: list[pa.RecordBatch], layout: pa.Schema, facts: _Facts) -> tuple[bytes, ShardInfo]:
    data, ends = _serialised(blocks, layout)
    return data, {
        "format": FORMAT,
        **facts,
        "rows": sum(block.num_rows for block in blocks),
        "documents": sum(len(block["documents"].values) for block in blocks),
        "tokens": sum(int(block["num_tokens"].to_numpy().sum()) for block in blocks),
        "bytes": len(data),
        "blocks": [_block_info(data, block, end) for block, end in zip(blocks, ends, strict=True)],
    }


def _block_info(data: bytes, block: pa.RecordBatch, end: int) -> BlockInfo:
    size = pa.ipc.get_record_batch_size(block)
    digest = xxhash.xxh3_64_hexdigest(memoryview(data)[end - size : end])
    return {"offset": end - size, "bytes": size, "rows": block.num_rows, "xxh3": digest}


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """The rows of a block; the arrays are views of the file where the types allow it."""

    tokens_RT: Ids
    document_offsets: list[int]
    """[R + 1]: where the documents of each row begin."""
    documents_D2: NDArray[np.int32]
    """Start and length."""
    span_offsets: list[int]
    spans_S4: NDArray[np.int32]
    """Document in the row, start in the row, length, modality."""
    record: pa.RecordBatch
    """All columns, as the schema says."""

    def row(self, number: int) -> tuple[Ids, NDArray[np.int32], NDArray[np.int32]]:
        """Tokens [T], documents [D, 2] and spans [S, 4] of one row."""
        d, s = self.document_offsets, self.span_offsets
        documents_D2 = self.documents_D2[d[number] : d[number + 1]]
        return self.tokens_RT[number], documents_D2, self.spans_S4[s[number] : s[number + 1]]


class PackShard:
    """An open shard. A block is verified once, when it is first asked for."""

    def __init__(self, *, name: str, data: pa.Buffer, info: ShardInfo, layout: pa.Schema) -> None:
        self.name = name
        self.info = info
        self._data = data
        self._layout = layout
        self._verified: set[int] = set()

    @classmethod
    def open(cls, path: Path, info: ShardInfo) -> Self:
        """Memory-map a shard. No file stays open: the mapping lives as long as an array that views it."""
        if info["format"] != FORMAT:
            raise ValueError(f"{path} has format {info['format']}, this version reads {FORMAT}; rebuild it")
        with pa.memory_map(str(path)) as file:
            data = file.read_buffer()
        if data.size != info["bytes"]:
            raise Corrupt(f"{path} has {data.size} bytes, its manifest says {info['bytes']}; fetch it again")
        layout = schema(context=info["context"], fingerprint=info["vocabulary"])
        return cls(name=str(path), data=data, info=info, layout=layout)

    def block(self, number: int) -> Block:
        """Raises ``Corrupt``, naming the block, if its bytes are not those that were written."""
        place = self.info["blocks"][number]
        data = self._data.slice(place["offset"], place["bytes"])
        if number not in self._verified:
            found = xxhash.xxh3_64_hexdigest(data)
            if found != place["xxh3"]:
                raise Corrupt(
                    f"block {number} of {self.name} has xxh3 {found}, its manifest says {place['xxh3']}; "
                    "delete the shard and fetch or build it again"
                )
            self._verified.add(number)
        return _parsed(pa.ipc.read_record_batch(pa.ipc.read_message(data), self._layout))

    def tokens(self, number: int) -> Ids:
        """[R, context + 1], a view of the file."""
        return self.block(number).tokens_RT


def _parsed(record: pa.RecordBatch) -> Block:
    tokens, _, documents, spans = record.columns
    start, length = (documents.values.field(name).to_numpy() for name in ("start", "length"))
    names = ("document", "start", "length", "modality")
    return Block(
        tokens_RT=tokens.values.to_numpy().reshape(record.num_rows, -1),
        document_offsets=documents.offsets.to_pylist(),
        documents_D2=np.stack((start, length), axis=1),
        span_offsets=spans.offsets.to_pylist(),
        spans_S4=np.stack([spans.values.field(name).to_numpy() for name in names], axis=1).astype(np.int32),
        record=record,
    )
