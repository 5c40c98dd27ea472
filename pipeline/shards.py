"""The packed-shard format, stated once: the writer and the reader stand side by side.

A shard is an uncompressed Arrow IPC file whose record batches are blocks of at most ``block_rows`` rows; the
schema below is the whole layout. :class:`ShardInfo` goes into the artifact's manifest and says where each
block lies and what it hashes to. The surprising rule: the reader does not trust the file's footer; it finds a
block by the manifest, hashes its bytes, and only then parses them.

Shapes: R rows of a block, T = context + 1 tokens of a row, D documents, S spans.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator
from functools import cached_property, lru_cache
from itertools import accumulate, islice
from typing import Any, NotRequired, TypedDict

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash
from numpy.typing import NDArray

from pipeline.pack import PackConfig
from pipeline.packed import Modality, Role, Row, Via
from pipeline.schema import column
from tokenizer_service import vocabulary
from tokenizer_service.vocabulary import Ids

FORMAT = 1
NOBODY = ""
"""In place of the name of what was taken back."""


class BlockInfo(TypedDict):
    offset: int
    bytes: int
    rows: int
    xxh3: str
    blanked: NotRequired[bool]
    """Whether tokens were taken out since it was written."""


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


@lru_cache(8)
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


def files(
    rows: Iterable[Row], config: PackConfig, *, fingerprint: str
) -> tuple[dict[str, bytes], dict[str, ShardInfo]]:
    """The shards of one slot by the names of their files, and what its manifest says of each."""
    written, infos = {}, {}
    for number, (data, info) in enumerate(write(rows, config, fingerprint=fingerprint)):
        name = f"{number:05d}.arrow"
        written[name], infos[name] = data, info
    return written, infos


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


class Block:
    """The rows of a block; the arrays are views of the file where the types allow it."""

    def __init__(
        self, record: pa.RecordBatch, tokens_RT: Ids | None = None, *, is_blanked: bool = False
    ) -> None:
        self.record = record
        """All columns, as the schema says."""
        flat = numbers(record.column(0).values, np.uint16) if tokens_RT is None else tokens_RT
        self.tokens_RT: Ids = flat.reshape(record.num_rows, -1)
        self.is_blanked = is_blanked or tokens_RT is not None
        """Whether tokens were taken out since it was written."""

    @cached_property
    def _documents(self) -> tuple[list[int], NDArray[np.int32]]:
        """Where the documents of each row begin [R + 1], and their start and length [D, 2]."""
        documents = self.record.column(2)
        start, length = (numbers(documents.values.field(name), np.int32) for name in ("start", "length"))
        return numbers(documents.offsets, np.int32).tolist(), np.stack((start, length), axis=1)

    @cached_property
    def _spans(self) -> tuple[list[int], NDArray[np.int32]]:
        """Where the spans of each row begin [R + 1]; document, start, length, modality and role [S, 5]."""
        spans = self.record.column(3)
        columns = [numbers(spans.values.field(name), np.int32) for name in ("document", "start", "length")]
        kinds = [
            numbers(spans.values.field(name), np.uint8).astype(np.int32) for name in ("modality", "role")
        ]
        return numbers(spans.offsets, np.int32).tolist(), np.stack((*columns, *kinds), axis=1)

    def layout(self, row: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Start and length of a row's documents [D, 2]; document, start, length, modality and role of its
        spans [S, 5].
        """
        (first_document, documents_D2), (first_span, spans_S5) = self._documents, self._spans
        return (
            documents_D2[first_document[row] : first_document[row + 1]],
            spans_S5[first_span[row] : first_span[row + 1]],
        )

    def holding(self, *uids: str) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
        """For each span of these assets its row [H], and the asset's role in it [H]."""
        hits, row_H = self._spans_of(uids)
        return row_H, numbers(self.record.column(3).values.field("role"), np.uint8)[hits]

    def documents(self, *uids: str) -> NDArray[np.int64]:
        """[N, 2]: rows, and numbers within them, of the documents that have a span of these assets."""
        hits, row_H = self._spans_of(uids)
        number_H = numbers(self.record.column(3).values.field("document"), np.int32)[hits]
        return np.unique(np.stack([row_H, number_H.astype(np.int64)], axis=1), axis=0)

    def _spans_of(self, uids: Collection[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Places among all spans [H], and their rows [H]."""
        spans = self.record.column(3)
        named = pc.is_in(spans.values.field("uid"), pa.array(uids, pa.string()))
        (hits,) = np.nonzero(np.asarray(named, np.bool_))
        return hits, np.searchsorted(numbers(spans.offsets, np.int32), hits, side="right") - 1

    def without(self, uids: Collection[str]) -> Block:
        """The block with ``<pad>`` for every token of these assets.

        All but a neighbor takes its whole document along: what is left would be neighbors of nothing, or an
        answer to nothing. Rows, documents and spans stay as they are, so that orders, masks and saved states
        do not move.
        """
        if not uids:
            return self
        spans = self.record.column(3)
        named = spans.values.field("uid").to_pylist()
        (hits,) = np.nonzero([uid in uids for uid in named])
        if not len(hits):
            return self
        (offsets, spans_S5), (first_document, documents_D2) = self._spans, self._documents
        tokens_RT = self.tokens_RT.copy()
        row_H = np.searchsorted(offsets, hits, side="right") - 1
        for row, hit in zip(row_H.tolist(), hits.tolist(), strict=True):
            document, start, length, _, role = spans_S5[hit].tolist()
            if role != Role.NEIGHBOR:
                start, length = documents_D2[first_document[row] + document].tolist()
            tokens_RT[row, start : start + length] = vocabulary.PAD
        return Block(self.record, tokens_RT)

    def blanked(self, uids: Collection[str]) -> pa.RecordBatch:
        """The columns with these assets' tokens blanked and their names gone: of a span its uid and revision,
        of a document of which nothing is left the name of its example.
        """
        tokens, num_tokens, documents, spans = self.record.schema.types
        left = self.without(uids)
        told = self.record.column(2).to_pylist()
        cited = self.record.column(3).to_pylist()
        for row, (row_documents, row_spans) in enumerate(zip(told, cited, strict=True)):
            for span in row_spans:
                if span["uid"] in uids:
                    span["uid"], span["revision"] = NOBODY, 0
            for document in row_documents:
                start, length = document["start"], document["length"]
                if not left.tokens_RT[row, start : start + length].any():
                    document["example_id"] = NOBODY
        columns = [
            pa.FixedSizeListArray.from_arrays(pa.array(left.tokens_RT.reshape(-1)), type=tokens),
            self.record.column(1).cast(num_tokens),
            pa.array(told, documents),
            pa.array(cited, spans),
        ]
        return pa.RecordBatch.from_arrays(columns, schema=self.record.schema)


def numbers(column: pa.Array, dtype: type[np.generic]) -> NDArray[Any]:
    """A view of a column without nulls. Not ``to_numpy``, whose first call imports pandas: 0.3 s."""
    flat = np.frombuffer(column.buffers()[1], dtype)
    return flat[column.offset : column.offset + len(column)]


def opened(data: pa.Buffer, info: ShardInfo, block: BlockInfo) -> Block:
    """A block from its bytes, which :func:`infra.artifact.check_part` has seen."""
    layout = schema(context=info["context"], fingerprint=info["vocabulary"])
    record = pa.ipc.read_record_batch(pa.ipc.read_message(data), layout)
    return Block(record, is_blanked=block.get("blanked", False))


def blocks_of(data: bytes, info: ShardInfo) -> list[Block]:
    """Of a whole shard that was checked."""
    whole = pa.py_buffer(data)
    return [opened(whole.slice(one["offset"], one["bytes"]), info, one) for one in info["blocks"]]


def rewritten(data: bytes, info: ShardInfo, uids: Collection[str]) -> tuple[bytes, ShardInfo] | None:
    """The shard with what :meth:`Block.without` blanks written down, and without the names; None if it holds
    none of these assets. Rows, documents, spans and blocks stay where they are in the order.
    """
    layout = schema(context=info["context"], fingerprint=info["vocabulary"])
    parts = blocks_of(data, info)
    held = [bool(len(part.holding(*uids)[0])) for part in parts]
    if not any(held):
        return None
    records = [part.blanked(uids) if here else part.record for part, here in zip(parts, held, strict=True)]
    facts = _Facts(context=info["context"], max_spans=info["max_spans"], vocabulary=info["vocabulary"])
    written, told = _shard(records, layout, facts)
    for one, part, here in zip(told["blocks"], parts, held, strict=True):
        if here or part.is_blanked:
            one["blanked"] = True
    return written, told


def check_format(info: ShardInfo, where: str) -> None:
    if info["format"] != FORMAT:
        raise ValueError(f"{where} has format {info['format']}, this version reads {FORMAT}; rebuild it")
