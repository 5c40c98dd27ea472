"""Ways in which something of a revoked asset is left behind: each plants one in a folder, and says where."""

from __future__ import annotations

import base64
import bz2
import gzip
import html
import io
import json
import lzma
import struct
import tarfile
import urllib.parse
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, PngImagePlugin
from safetensors.numpy import save as save_safetensors


@dataclass(frozen=True, slots=True, kw_only=True)
class Gone:
    """A revoked asset, as the corpus knew it; and a corpus that does not."""

    uid: str
    caption: str
    sha256: str
    picture: bytes
    codes: list[int]
    words: list[int]
    image_vector: np.ndarray[Any, Any]
    features: np.ndarray[Any, Any]
    document_vector: np.ndarray[Any, Any]
    phash: int
    structure: bytes
    index_id: int
    contributor: str
    """Who was revoked, of another asset."""
    license: str
    release: str
    corpus: Path

    @property
    def key(self) -> str:
        return self.uid.replace(":", "_")

    @property
    def asset(self) -> str:
        return self.uid.partition(":")[2]

    def file(self, pattern: str) -> Path:
        """The first file of the clean corpus like this."""
        return next(iter(sorted(self.corpus.glob(pattern))))


Plant = Callable[[Gone, Path], tuple[str, str]]
"""Writes below the folder; the file, and a part of the place that has to be told."""
PLANTS: dict[str, Plant] = {}


def plant(made: Plant) -> Plant:
    PLANTS[made.__name__] = made
    return made


def put(folder: Path, name: str, data: bytes) -> str:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data)
    return name


def tar(*members: tuple[str, bytes], base: bytes = b"") -> bytes:
    sink = io.BytesIO(base)
    with tarfile.open(fileobj=sink, mode="a:" if base else "w:") as archive:
        for name, data in members:
            head = tarfile.TarInfo(name)
            head.size = len(data)
            archive.addfile(head, io.BytesIO(data))
    return sink.getvalue()


def parquet(table: pa.Table, **options: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, **{"compression": "zstd", **options})
    return sink.getvalue()


def ipc(table: pa.Table, *, stream: bool = False, **options: Any) -> bytes:
    sink = io.BytesIO()
    make = pa.ipc.new_stream if stream else pa.ipc.new_file
    with make(sink, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(table)
    return sink.getvalue()


def faiss_file(index: Any) -> bytes:
    return bytes(faiss.serialize_index(index))


def png(**texts: str) -> bytes:
    sink, info = io.BytesIO(), PngImagePlugin.PngInfo()
    for keyword, text in texts.items():
        info.add_text(keyword, text, zip=keyword.startswith("zipped"))
    Image.new("RGB", (8, 8)).save(sink, "PNG", pnginfo=info)
    return sink.getvalue()


def clean_rows(gone: Gone) -> tuple[str, pa.Table]:
    file = gone.file("shards/decide/*/rows.parquet")
    return str(file.relative_to(gone.corpus)), pq.read_table(file)


def changed(table: pa.Table, column: str, row: int, value: Any) -> pa.Table:
    values = table[column].to_pylist()
    values[row] = value
    at = table.schema.get_field_index(column)
    return table.set_column(at, table.schema.field(at), pa.array(values, table.schema.field(at).type))


# Names.


@plant
def name_of_a_tar_member(gone: Gone, folder: Path) -> tuple[str, str]:
    base = gone.file("shards/images/*/images.tar").read_bytes()
    name = put(folder, "shards/images/k/images.tar", tar((f"{gone.key}.jpg", b"another picture"), base=base))
    return name, gone.key


@plant
def name_in_the_json_of_a_tar(gone: Gone, folder: Path) -> tuple[str, str]:
    told = json.dumps({"uid": "acme:other", "near": gone.uid}).encode()
    return put(folder, "shards/images/k/images.tar", tar(("acme_other.json", told))), "acme_other.json"


@plant
def name_of_a_member_in_a_header_of_its_own(gone: Gone, folder: Path) -> tuple[str, str]:
    long = f"{'x' * 120}/{gone.key}.jpg"
    return put(folder, "shards/images/k/images.tar", tar((long, b"another"))), "a member's name"


@plant
def uid_in_a_column(gone: Gone, folder: Path) -> tuple[str, str]:
    name, rows = clean_rows(gone)
    return put(
        folder, name, parquet(changed(rows, "group" if "group" in rows.schema.names else "key", 2, gone.uid))
    ), "row 2"


@plant
def uid_among_the_candidates_of_a_target(gone: Gone, folder: Path) -> tuple[str, str]:
    file = gone.file("shards/neighbors/*/neighbors.parquet")
    rows = pq.read_table(file)
    candidates = rows["candidates"].to_pylist()
    row = next(number for number, found in enumerate(candidates) if len(found) > 1)
    candidates[row][1]["uid"] = gone.uid
    table = changed(rows, "candidates", row, candidates[row])
    return put(
        folder, str(file.relative_to(gone.corpus)), parquet(table)
    ), f"row {row}, column candidates.uid"


@plant
def uid_in_a_span_of_a_pack(gone: Gone, folder: Path) -> tuple[str, str]:
    file = gone.file("shards/pack/*/*.arrow")
    rows = pa.ipc.open_file(str(file)).read_all()
    spans = rows["spans"].to_pylist()
    spans[0][0]["uid"] = gone.uid
    return put(
        folder, str(file.relative_to(gone.corpus)), ipc(changed(rows, "spans", 0, spans[0]))
    ), "column spans.uid"


@plant
def uid_in_the_metadata_of_a_schema(gone: Gone, folder: Path) -> tuple[str, str]:
    name, rows = clean_rows(gone)
    told = {b"made": json.dumps({"first": gone.uid}).encode()}
    return put(folder, name, parquet(rows.replace_schema_metadata(told))), "schema metadata"


@plant
def uid_in_the_metadata_of_a_column(gone: Gone, folder: Path) -> tuple[str, str]:
    table = pa.table([[1]], schema=pa.schema([pa.field("n", pa.int64(), metadata={"about": gone.uid})]))
    return put(folder, "shards/x/k/t.arrow", ipc(table)), "metadata of column n"


@plant
def uid_in_an_entry_of_a_dictionary_that_no_row_uses(gone: Gone, folder: Path) -> tuple[str, str]:
    column = pa.DictionaryArray.from_arrays(pa.array([0, 0], pa.int8()), pa.array(["kept", gone.uid]))
    return put(folder, "shards/x/k/t.arrow", ipc(pa.table({"by": column}))), "unused entry"


@plant
def uid_under_a_null_of_a_struct(gone: Gone, folder: Path) -> tuple[str, str]:
    inner = pa.StructArray.from_arrays([pa.array([gone.uid])], names=["who"], mask=pa.array([True]))
    return put(folder, "shards/x/k/t.arrow", ipc(pa.table({"s": inner}))), "column s.who"


@plant
def uid_in_the_register_of_ids(gone: Gone, folder: Path) -> tuple[str, str]:
    table = pa.table({"uid": ["acme:other", gone.uid], "id": [900, 901]})
    return put(folder, "registers/ids/abc", parquet(table)), "row 1, column uid"


@plant
def uid_in_the_register_of_what_was_withdrawn(gone: Gone, folder: Path) -> tuple[str, str]:
    table = pa.table({"uid": [gone.uid], "reason": ["asked"], "at": ["2026-01-01"]})
    return put(folder, "registers/withdrawn/abc", parquet(table)), "row 0, column uid"


@plant
def uid_among_the_facts_of_a_shard(gone: Gone, folder: Path) -> tuple[str, str]:
    told = {"facts": {"dropped_neighbors": [gone.uid]}}
    return put(folder, "shards/pack/k/shard.json", json.dumps(told, indent=1).encode()), "offset"


@plant
def uid_in_the_manifest_of_an_artifact(gone: Gone, folder: Path) -> tuple[str, str]:
    told = {"shards": {"00000-000000": {"facts": {"withdrawn": [gone.uid]}}}}
    return put(folder, "artifacts/codes/k.json", json.dumps(told).encode()), "offset"


@plant
def uid_in_a_line_of_a_log(gone: Gone, folder: Path) -> tuple[str, str]:
    lines = [json.dumps({"event": "step"}), json.dumps({"event": "error", "message": f"{gone.uid}: bad"})]
    return put(folder, "logs/20260101-build.jsonl", "\n".join(lines).encode()), "offset"


@plant
def uid_in_the_record_of_a_run(gone: Gone, folder: Path) -> tuple[str, str]:
    return put(
        folder, "runs/k/1.json", json.dumps({"sources": {"": {"seen": [gone.uid]}}}).encode()
    ), "offset"


@plant
def key_in_the_name_of_a_file(gone: Gone, folder: Path) -> tuple[str, str]:
    name = f"reports/thumbs/{gone.key}-64.jpg"
    return put(folder, name, b"\xff\xd8\xff a thumbnail"), "its name"


@plant
def own_id_as_the_name_of_a_file(gone: Gone, folder: Path) -> tuple[str, str]:
    return put(folder, f"reports/{gone.asset}.html", b"<p>nothing</p>"), "its name"


@plant
def uid_in_a_row_of_a_kept_delivery(gone: Gone, folder: Path) -> tuple[str, str]:
    lines = [json.dumps({"asset_id": "other"}), json.dumps({"asset_id": gone.asset, "file": "x.jpg"})]
    return put(folder, "deliveries/d/rows/r.jsonl", "\n".join(lines).encode()), "offset"


@plant
def uid_in_utf_16(gone: Gone, folder: Path) -> tuple[str, str]:
    return put(folder, "reports/a.txt", f"we saw {gone.uid} here".encode("utf-16")), "as UTF-8"


@plant
def uid_in_utf_16_amid_other_bytes(gone: Gone, folder: Path) -> tuple[str, str]:
    data = bytes(range(256)) + gone.uid.encode("utf-16-be") + bytes(100)
    return put(folder, "caches/thing.bin", data), "offset"


@plant
def uid_in_tensorboards_events(gone: Gone, folder: Path) -> tuple[str, str]:
    event = struct.pack("<QI", 40, 1) + b"\x09\0\0\0\0\x0a\x20" + gone.uid.encode() + b"\x12\0\0"
    return put(folder, "run/events.out.tfevents.1", event), "offset"


# Hashes.


@plant
def sha256_in_a_catalog(gone: Gone, folder: Path) -> tuple[str, str]:
    name, rows = clean_rows(gone)
    return put(folder, name, parquet(changed(rows, "sha256", 1, gone.sha256))), "row 1, column sha256"


@plant
def sha256_as_bytes_in_a_column(gone: Gone, folder: Path) -> tuple[str, str]:
    column = pa.array([bytes(32), bytes.fromhex(gone.sha256)], pa.binary(32))
    return put(
        folder, "shards/records/k/revisions.parquet", parquet(pa.table({"image": column}))
    ), "row 1, column image"


@plant
def sha256_in_capitals(gone: Gone, folder: Path) -> tuple[str, str]:
    return put(folder, "reports/sums.txt", f"{gone.sha256.upper()}  a.jpg\n".encode()), "offset"


@plant
def sha256_in_base64(gone: Gone, folder: Path) -> tuple[str, str]:
    told = base64.b64encode(bytes.fromhex(gone.sha256))
    return put(folder, "reports/page.html", b'<img integrity="sha256-' + told + b'">'), "offset"


@plant
def perceptual_hash_in_a_column(gone: Gone, folder: Path) -> tuple[str, str]:
    table = pa.table({"uid": ["acme:shot-0003"], "phash": pa.array([gone.phash], pa.uint64())})
    return put(folder, "shards/features/k/t.arrow", ipc(table)), "row 0, column phash"


@plant
def perceptual_hash_in_json(gone: Gone, folder: Path) -> tuple[str, str]:
    return put(folder, "reports/pairs.json", json.dumps({"hashes": [gone.phash]}).encode()), "offset"


@plant
def measures_of_its_edges(gone: Gone, folder: Path) -> tuple[str, str]:
    table = pa.table({"uid": ["acme:shot-0003"], "structure": [gone.structure]})
    return put(folder, "shards/features/k/t.parquet", parquet(table)), "row 0, column structure"


# Words.


@plant
def caption_in_a_text_of_a_tar(gone: Gone, folder: Path) -> tuple[str, str]:
    data = tar(("acme_shot-0003.txt", gone.caption.encode()))
    return put(folder, "shards/images/k/images.tar", data), "acme_shot-0003.txt, offset"


@plant
def caption_in_a_column(gone: Gone, folder: Path) -> tuple[str, str]:
    name, rows = clean_rows(gone)
    return put(
        folder, name, parquet(changed(rows, "description", 3, gone.caption))
    ), "row 3, column description"


@plant
def caption_in_a_nested_list(gone: Gone, folder: Path) -> tuple[str, str]:
    rows = [[{"text": "Describe it."}], [{"text": "Say."}, {"text": f"Given. {gone.caption}"}]]
    return put(
        folder, "shards/instruct/k/records.parquet", parquet(pa.table({"prompt": rows}))
    ), "row 1, column prompt.text"


@plant
def caption_in_json_with_escapes(gone: Gone, folder: Path) -> tuple[str, str]:
    told = "".join(f"\\u{ord(letter):04x}" for letter in gone.caption)
    return put(folder, "reports/told.json", f'{{"said": "{told}"}}'.encode()), "unescaped, line 1"


@plant
def caption_in_an_address(gone: Gone, folder: Path) -> tuple[str, str]:
    told = f"GET /search?q={urllib.parse.quote_plus(gone.caption)} HTTP/1.1"
    return put(folder, "logs/access.log", told.encode()), "percent-decoded"


@plant
def caption_in_a_page(gone: Gone, folder: Path) -> tuple[str, str]:
    told = "".join(f"&#{ord(letter)};" for letter in html.escape(gone.caption))
    return put(folder, "reports/page.html", f"<html><p>{told}</p></html>".encode()), "without entities"


@plant
def caption_across_tags_and_lines(gone: Gone, folder: Path) -> tuple[str, str]:
    told = gone.caption.replace(" ", "</b>\n   <b>", 2).replace("</b>\n", " </b>\n")
    return put(folder, "reports/page.html", f"<html><b>{told}</b></html>".encode()), "on one line"


@plant
def caption_in_gzip(gone: Gone, folder: Path) -> tuple[str, str]:
    return put(
        folder, "caches/a.json.gz", gzip.compress(json.dumps([gone.caption]).encode())
    ), "gzip's content"


@plant
def caption_in_zstd(gone: Gone, folder: Path) -> tuple[str, str]:
    data = pa.compress(json.dumps([gone.caption] * 3).encode(), "zstd", asbytes=True)
    return put(folder, "caches/a.json.zst", data), "zstd's content"


@plant
def caption_in_a_gzip_in_a_zip_in_a_tar(gone: Gone, folder: Path) -> tuple[str, str]:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("inner.gz", gzip.compress(gone.caption.encode()))
    return put(folder, "caches/a.tar", tar(("b.zip", sink.getvalue()))), "b.zip > inner.gz > gzip's content"


@plant
def caption_in_bzip2_and_xz(gone: Gone, folder: Path) -> tuple[str, str]:
    put(folder, "caches/a.bz2", bz2.compress(gone.caption.encode()))
    return put(folder, "caches/a.xz", lzma.compress(gone.caption.encode())), "xz's content"


@plant
def caption_in_a_text_of_a_png(gone: Gone, folder: Path) -> tuple[str, str]:
    told = json.dumps({"prompt": "a", "neighbors": [{"caption": gone.caption}]})
    return put(folder, "samples/drawn.png", png(pardalis=told)), "offset"


@plant
def uid_in_a_packed_text_of_a_png(gone: Gone, folder: Path) -> tuple[str, str]:
    return put(folder, "samples/drawn.png", png(zipped=json.dumps({"neighbors": [gone.uid]}))), "chunk zTXt"


@plant
def caption_in_the_header_of_safetensors(gone: Gone, folder: Path) -> tuple[str, str]:
    data = save_safetensors({"w": np.zeros(4, np.float32)}, metadata={"example": gone.caption})
    return put(folder, "run/model.safetensors", data), "offset"


@plant
def caption_in_parquet_in_a_report_beside_the_rows(gone: Gone, folder: Path) -> tuple[str, str]:
    name, rows = clean_rows(gone)
    return put(
        folder, name, parquet(rows) + f"\0{gone.caption}\0".encode() + parquet(rows.slice(0, 0))
    ), "offset"


@plant
def caption_decomposed(gone: Gone, folder: Path) -> tuple[str, str]:
    return put(folder, "reports/a.txt", gone.caption.upper().encode()), "offset"


@plant
def caption_in_base64_in_a_column(gone: Gone, folder: Path) -> tuple[str, str]:
    told = base64.b64encode(f"it is: {gone.caption}, they said".encode()).decode()
    table = pa.table({"uid": ["acme:shot-0003"], "said": [json.dumps({"body": told})]})
    return put(folder, "shards/x/k/t.parquet", parquet(table)), "row 0, column said > base64 at"


@plant
def caption_with_escapes_in_a_column(gone: Gone, folder: Path) -> tuple[str, str]:
    told = "".join(f"\\u{ord(letter):04x}" for letter in gone.caption)
    table = pa.table({"uid": ["a:b", "acme:shot-0003"], "record": ["{}", f'{{"title": "{told}"}}']})
    return put(folder, "shards/x/k/t.parquet", parquet(table)), "row 1, column record > unescaped"


# Pictures.


@plant
def picture_in_base64_in_a_column(gone: Gone, folder: Path) -> tuple[str, str]:
    told = json.dumps({"image": base64.b64encode(gone.picture).decode()})
    table = pa.table({"uid": ["acme:shot-0003"], "record": [told]})
    return put(folder, "shards/x/k/t.parquet", parquet(table)), "row 0, column record > base64 at"


@plant
def picture_under_another_name(gone: Gone, folder: Path) -> tuple[str, str]:
    data = tar(("acme_shot-0003.jpg", gone.picture))
    return put(folder, "shards/images/k/images.tar", data), "acme_shot-0003.jpg, offset"


@plant
def half_a_picture_in_a_cache(gone: Gone, folder: Path) -> tuple[str, str]:
    return put(folder, "caches/blob", bytes(77) + gone.picture[len(gone.picture) // 2 :]), "offset"


@plant
def picture_in_a_page(gone: Gone, folder: Path) -> tuple[str, str]:
    told = base64.b64encode(gone.picture).decode()
    page = f'<html><img src="data:image/jpeg;base64,{told}"></html>'
    return put(folder, "reports/page.html", page.encode()), "base64 at"


@plant
def picture_in_a_column(gone: Gone, folder: Path) -> tuple[str, str]:
    table = pa.table(
        {"uid": ["acme:shot-0003"], "pictures": [[{"uid": "acme:shot-0003", "image": gone.picture}]]}
    )
    return put(folder, "shards/instruct/k/records.parquet", parquet(table)), "row 0, column pictures.image"


# Codes and tokens.


@plant
def codes_in_tokens(gone: Gone, folder: Path) -> tuple[str, str]:
    file = gone.file("shards/tokenize/*/tokens.arrow")
    rows = pa.ipc.open_file(str(file)).read_all()
    return put(
        folder, str(file.relative_to(gone.corpus)), ipc(changed(rows, "codes", 4, gone.codes))
    ), "row 4, column codes"


@plant
def codes_in_a_pack(gone: Gone, folder: Path) -> tuple[str, str]:
    file = gone.file("shards/pack/*/*.arrow")
    rows = pa.ipc.open_file(str(file)).read_all()
    tokens = rows["tokens"].to_pylist()[0]
    tokens[10 : 10 + len(gone.codes)] = [57344 + code for code in gone.codes]
    return put(
        folder, str(file.relative_to(gone.corpus)), ipc(changed(rows, "tokens", 0, tokens))
    ), "row 0, column tokens"


@plant
def codes_across_two_rows(gone: Gone, folder: Path) -> tuple[str, str]:
    half = len(gone.codes) // 2
    rows = pa.table(
        {"tokens": pa.array([[7, *gone.codes[:half]], [*gone.codes[half:], 9]], pa.list_(pa.uint32()))}
    )
    return put(folder, "shards/x/k/t.arrow", ipc(rows, compression="zstd")), "row 0, column tokens"


@plant
def codes_as_numbers_of_8_bytes(gone: Gone, folder: Path) -> tuple[str, str]:
    rows = pa.table({"ids": pa.array([[3, *gone.codes]], pa.list_(pa.int64()))})
    return put(folder, "caches/t.stream", ipc(rows, stream=True)), "row 0, column ids"


@plant
def codes_in_a_pickled_cache(gone: Gone, folder: Path) -> tuple[str, str]:
    data = b"\x80\x04\x00cache" + np.array(gone.codes, np.uint32).tobytes() + b"."
    return put(folder, "caches/t.pkl", data), "offset"


@plant
def codes_in_an_array(gone: Gone, folder: Path) -> tuple[str, str]:
    sink = io.BytesIO()
    np.save(sink, np.array([gone.codes, gone.codes[::-1]], np.uint16))
    return put(folder, "caches/codes.npy", sink.getvalue()), "array, number 0"


@plant
def codes_in_a_log(gone: Gone, folder: Path) -> tuple[str, str]:
    return put(
        folder, "logs/tokens.json", json.dumps({"drawn": [57344 + code for code in gone.codes]}).encode()
    ), "list at"


@plant
def words_of_its_caption_as_tokens(gone: Gone, folder: Path) -> tuple[str, str]:
    rows = pa.table(
        {"tokens": pa.array([[1, 1, *(1024 + word for word in gone.words), 2]], pa.list_(pa.uint16()))}
    )
    return put(folder, "shards/pack/k/0.arrow", ipc(rows)), "row 0, column tokens"


# Vectors and the index.


@plant
def vector_among_embeddings(gone: Gone, folder: Path) -> tuple[str, str]:
    file = gone.file("shards/embed/*/embeddings.arrow")
    rows = pa.ipc.open_file(str(file)).read_all()
    table = changed(rows, "image_vector", 2, gone.image_vector.astype(np.float16).tolist())
    return put(folder, str(file.relative_to(gone.corpus)), ipc(table)), "row 2, column image_vector"


@plant
def vector_rounded_and_scaled(gone: Gone, folder: Path) -> tuple[str, str]:
    noisy = 3 * (gone.image_vector + np.float32(1e-4) * np.sign(gone.image_vector))
    table = pa.table({"v": pa.array([noisy.tolist()], pa.list_(pa.float32(), len(noisy)))})
    return put(folder, "caches/v.parquet", parquet(table)), "row 0, column v"


@plant
def features_of_the_encoder(gone: Gone, folder: Path) -> tuple[str, str]:
    return put(folder, "caches/f.bin", bytes(13) + gone.features.astype(np.float32).tobytes()), "offset"


@plant
def vector_among_the_queries(gone: Gone, folder: Path) -> tuple[str, str]:
    sink = io.BytesIO()
    np.save(sink, np.stack([gone.image_vector[::-1], gone.image_vector]))
    return put(folder, "shards/lists/k/queries.npy", sink.getvalue()), "array, row 1"


@plant
def vector_in_a_flat_segment_under_another_id(gone: Gone, folder: Path) -> tuple[str, str]:
    index = faiss.IndexIDMap2(faiss.IndexFlatIP(len(gone.document_vector)))
    index.add_with_ids(gone.document_vector[None], np.array([777_000]))
    return put(folder, "shards/index/k/segment.faiss", faiss_file(index)), "vector of id 777000"


@plant
def vector_in_half_precision_in_lists(gone: Gone, folder: Path) -> tuple[str, str]:
    width = len(gone.document_vector)
    index = faiss.IndexIVFScalarQuantizer(
        faiss.IndexFlatIP(width), width, 2, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT
    )
    others = np.random.default_rng(0).normal(size=(80, width)).astype(np.float32)
    index.train(others)
    index.add_with_ids(np.concatenate([others, gone.document_vector[None]]), np.arange(81) + 5000)
    return put(folder, "shards/codes/k/part.faiss", faiss_file(index)), "vector of id 5080"


@plant
def id_in_lists(gone: Gone, folder: Path) -> tuple[str, str]:
    index = faiss.index_factory(32, "IVF2,Flat", faiss.METRIC_INNER_PRODUCT)
    others = np.random.default_rng(0).normal(size=(80, 32)).astype(np.float32)
    index.train(others)
    index.add_with_ids(others[:3], np.array([1, gone.index_id, 2]))
    return put(folder, "shards/codes/k/part.faiss", faiss_file(index)), f"id {gone.index_id}"


@plant
def id_of_a_flat_segment(gone: Gone, folder: Path) -> tuple[str, str]:
    index = faiss.IndexIDMap2(faiss.IndexFlatIP(8))
    index.add_with_ids(np.eye(8, dtype=np.float32)[:2], np.array([3, gone.index_id]))
    return put(folder, "shards/index/k/segment.faiss", faiss_file(index)), f"id {gone.index_id}"


@plant
def id_in_a_column(gone: Gone, folder: Path) -> tuple[str, str]:
    table = pa.table({"id": pa.array([gone.index_id], pa.int64())})
    return put(folder, "caches/members.parquet", parquet(table)), "row 0, column id"


# Who and under what.


@plant
def contributor_in_a_column(gone: Gone, folder: Path) -> tuple[str, str]:
    name, rows = clean_rows(gone)
    return put(
        folder, name, parquet(changed(rows, "contributor", 0, gone.contributor))
    ), "row 0, column contributor"


@plant
def contributor_in_a_record(gone: Gone, folder: Path) -> tuple[str, str]:
    told = json.dumps({"provider": "acme", "asset_id": "other", "contributor": {"id": gone.contributor}})
    table = pa.table({"uid": ["acme:other"], "record": [told]})
    return put(
        folder, "shards/records/k/records.parquet", parquet(table)
    ), "row 0, column record > key contributor"


@plant
def contributor_among_counts(gone: Gone, folder: Path) -> tuple[str, str]:
    told = {"facts": {"contributors": {f"acme:{gone.contributor}": {"pairs": 3}}}}
    return put(folder, "shards/pack/k/shard.json", json.dumps(told).encode()), "key contributors"


@plant
def license_in_a_column(gone: Gone, folder: Path) -> tuple[str, str]:
    name, rows = clean_rows(gone)
    return put(
        folder, name, parquet(changed(rows, "licenses", 1, ["acme-data-2026", gone.license]))
    ), "row 1, column licenses"


@plant
def license_alone_in_a_record(gone: Gone, folder: Path) -> tuple[str, str]:
    told = json.dumps({"provider": "acme", "asset_id": "other", "license_ids": [gone.license]})
    return put(folder, "deliveries/d/rows/r.jsonl", told.encode()), "key license_ids"


@plant
def release_in_a_column(gone: Gone, folder: Path) -> tuple[str, str]:
    table = pa.table({"uid": ["acme:other"], "model_releases": [[gone.release]]})
    return put(folder, "shards/records/k/revisions.parquet", parquet(table)), "row 0, column model_releases"


def zlib_bomb(size: int) -> bytes:
    """Gzip of zeros, a thousandth of ``size``."""
    engine = zlib.compressobj(9, zlib.DEFLATED, 31)
    piece = bytes(1 << 20)
    return b"".join(engine.compress(piece) for _ in range(size >> 20)) + engine.flush()
