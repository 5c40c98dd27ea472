"""The witness by itself: what it imports, how it ends, and what it does with bytes that are out to get it."""

from __future__ import annotations

import ast
import hashlib
import io
import itertools
import json
import os
import struct
import subprocess
import sys
import tarfile
import time
import zlib
from collections.abc import Collection, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.cli import MISTAKE, run
from infra.ending import REFUSED
from infra.storage import Store
from pipeline import contract
from pipeline.verify import (
    buckets,
    chain,
    collect,
    evidence,
    files,
    harvest,
    judging,
    merkle,
    naming,
    needles,
    numbers,
    revocations,
    texts,
)
from pipeline.verify.evidence import Item
from pipeline.verify.judging import Verdict

ROOT = Path(__file__).parents[2] / "pipeline" / "verify"
MAY = {"numpy", "pyarrow", "faiss", "cyclopts", "boto3", "botocore"} | sys.stdlib_module_names
UID = "acme:asset-000017"
ITEMS = [Item("id", UID, "uid", UID.encode()), Item("id", UID, "key", b"acme_asset-000017")]


def judged(folder: Path, items: list[Item] | None = None, **options: Any) -> Verdict:
    options = {"workers": 0, **options}
    return judging.judge(files.listed(folder, []), ITEMS if items is None else items, **options)


@pytest.mark.parametrize("path", sorted(ROOT.glob("*.py")), ids=lambda path: path.name)
def test_it_imports_nothing_of_ours(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "a relative import"
            names = [f"{node.module}"]
        for name in names:
            assert name.partition(".")[0] in MAY or f"{name}.".startswith("pipeline.verify."), name


@pytest.mark.long
def test_it_loads_nothing_of_ours() -> None:
    code = (
        "import sys, pipeline.verify.command\n"
        "ours = ('infra', 'tokenizer_service', 'retrieval', 'trainer', 'pipeline')\n"
        "found = [m for m in sys.modules if m.partition('.')[0] in ours and m != 'pipeline'"
        " and not f'{m}.'.startswith('pipeline.verify.')]\n"
        "assert not found, found\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT.parents[1], timeout=100)


def revocation(path: Path, **changes: Any) -> Path:
    example = {
        **contract.template()["revocation"],
        "effective_at": "2026-05-01T00:00:00Z",
        "action": "remove",
    }
    path.write_text(json.dumps({**example, **changes}) + "\n")
    return path


def test_a_wrong_record_is_the_users_mistake(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "corpus").mkdir()
    for changes, told in (
        ({"target_type": "colour"}, "target_type is 'colour'; write one of asset, contributor"),
        ({"targets": []}, "targets is []; list one id or more"),
        ({"effective_at": "soon"}, "effective_at is 'soon'; write YYYY-MM-DDTHH:MM:SSZ"),
        ({"schema": "x"}, "schema is not 'revocation/1.0'"),
        ({"target_type": "content_sha256", "targets": ["ab"]}, "64 lower-case hex digits"),
    ):
        path = revocation(tmp_path / "r.jsonl", **changes)
        words = ["verify", "--revocations", str(path), "--corpus", str(tmp_path / "corpus")]
        assert run(words) == MISTAKE
        assert f"line 1: {told}" in capsys.readouterr().err.replace(
            "targets holds what is no hash; write ", ""
        )


def test_what_is_not_there_is_the_users_mistake(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(revocation(tmp_path / "r.jsonl"))
    (tmp_path / "c").mkdir()
    for words, told in (
        (["--corpus", str(tmp_path / "none")], "is no folder"),
        (["--corpus", str(tmp_path / "c"), "--also", str(tmp_path / "none")], "--also"),
        (["--corpus", str(tmp_path / "c"), "--evidence", path], "--evidence"),
        (["--corpus", str(tmp_path / "c"), "--evidence", path, "--collect", "e"], "--collect and --evidence"),
        (["--corpus", str(tmp_path / "c"), "--workers", "-1"], "--workers -1"),
        (["--corpus", str(tmp_path / "c"), "--as-of", "now"], "--as-of now"),
    ):
        assert run(["verify", "--revocations", path, *words]) == MISTAKE, words
        assert told in capsys.readouterr().err


def test_an_asset_named_by_a_name_that_is_no_id_is_known_by_the_derived_one() -> None:
    assert revocations.asset_id("IMG 0001.final") == "v4j7rttkmyljkomllcptwudlrh"


# Bytes that are out to get it.


def bomb(size: int) -> bytes:
    engine = zlib.compressobj(9, zlib.DEFLATED, 31)
    piece = bytes(1 << 20)
    return b"".join(engine.compress(piece) for _ in range(size >> 20)) + engine.flush()


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def a_parquet() -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table({"n": list(range(1000))}), sink)
    return sink.getvalue()


def a_tar() -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w:") as tar:
        head = tarfile.TarInfo("a.jpg")
        head.size = 4000
        tar.addfile(head, io.BytesIO(bytes(4000)))
    return sink.getvalue()


def a_png_that_inflates() -> bytes:
    text = zlib.compress(bytes(64 << 20), 9)
    chunk = struct.pack(">I", len(text) + 3) + b"zTXt" + b"k\0\0" + text + bytes(4)
    return b"\x89PNG\r\n\x1a\n" + chunk


HOSTILE = {
    "bomb.gz": bomb(64 << 20),
    "picture.png": a_png_that_inflates(),
    "cut.parquet": cut(a_parquet()),
    "cut.tar": a_tar()[:3000],
    "noise.parquet": bytes(range(256)),
    "text.tar": b"no tar at all",
    "cut.npy": b"\x93NUMPY\x01\x00v\x00{'descr': '<f4', 'fortran_order': False, 'shape': (99,), }",
    "wrong.faiss": b"IxFI" + bytes(4) + b"\xff" * 40,
    "cut.zip": b"PK\3\4" + bytes(30),
    "cut.json.gz": cut(bomb(1 << 20)),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_cannot_be_read_is_told_and_fails(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(HOSTILE[name])
    verdict = judged(tmp_path, budget=16 << 20)
    assert [file for file, _ in verdict.unread] == [name], verdict
    assert not verdict.passed


def test_what_cannot_be_read_is_searched_as_it_stands(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1 " + UID.encode() + b" and no more")
    verdict = judged(tmp_path)
    assert [leak.place for leak in verdict.leaks] == ["offset 5"]
    assert len(verdict.unread) == 1


def test_archives_in_archives_end_somewhere(tmp_path: Path) -> None:
    data = b"words"
    for _ in range(12):
        data = bomb_of(data)
    (tmp_path / "a.gz").write_bytes(data)
    ((_, why),) = judged(tmp_path).unread
    assert "packed 9 deep" in why


def bomb_of(data: bytes) -> bytes:
    engine = zlib.compressobj(9, zlib.DEFLATED, 31)
    return engine.compress(data) + engine.flush()


def test_bytes_of_no_known_kind_are_no_failure(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(np.random.default_rng(0).bytes(100_000))
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "empty.tar").write_bytes(b"")
    assert judged(tmp_path).passed


def test_a_pipe_is_told_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert judged(tmp_path).unread == [("pipe", "no regular file; take it out of there")]


def test_links_to_folders_are_followed_once(tmp_path: Path) -> None:
    (tmp_path / "corpus").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "a.txt").write_text(UID)
    (tmp_path / "corpus" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "corpus" / "loop").symlink_to(tmp_path / "corpus")
    (tmp_path / "corpus" / "dangling").symlink_to(tmp_path / "gone")
    verdict = judged(tmp_path / "corpus")
    assert [leak.file for leak in verdict.leaks] == ["link/a.txt"]
    assert [file for file, _ in verdict.unread] == ["dangling"]


class Dies:
    """A sight whose process is killed by what it reads."""

    def __init__(self, word: bytes) -> None:
        self._word = word

    def begin(self) -> list[str]:
        return []

    def __getattr__(self, name: str) -> Any:
        return lambda *_: None

    def raw(self, data: memoryview, _place: str, _parts: Any) -> None:
        if self._word in bytes(data):
            os.kill(os.getpid(), 9)


@pytest.mark.long
def test_a_reader_that_dies_costs_its_file_alone(tmp_path: Path) -> None:
    for number in range(5):
        (tmp_path / f"{number}.txt").write_text("deadly" if number == 2 else "harmless")
    listed = files.listed(tmp_path, [])
    reads = list(files.read_all(listed, Dies, b"deadly", workers=2, title="test"))
    assert sorted(read.file.name for read in reads) == [f"{number}.txt" for number in range(5)]
    assert [(read.file.name, read.unread) for read in reads if read.unread] == [
        ("2.txt", "its reader died of it (exit code -9)")
    ]


# Buckets.


@pytest.fixture
def bucket(versioned: Store) -> Iterator[Store]:
    buckets.client.cache_clear()
    yield versioned
    buckets.client.cache_clear()


@pytest.mark.long
def test_what_a_bucket_keeps_of_the_deleted_is_read_too(bucket: Store) -> None:
    bucket.write("shards/decide/k/rows.txt", f"it was {UID}".encode())
    bucket.write("shards/decide/k/rows.txt", b"nothing")
    bucket.write("notes.txt", UID.encode())
    bucket.write("registers/revocations/a", UID.encode())
    bucket.delete(["notes.txt"])
    assert bucket.names() == ["registers/revocations/a", "shards/decide/k/rows.txt"]
    verdict = judging.judge(files.listed(bucket.uri, []), ITEMS, workers=0)
    (older, left) = sorted(leak.file for leak in verdict.leaks)
    assert (older.startswith("notes.txt"), left.startswith("shards/decide/k/rows.txt (version ")) == (
        True,
    ) * 2
    assert verdict.allowed == {"registers/revocations/": 1}
    bucket.erase(["notes.txt", "shards/decide/k/rows.txt"])
    assert judging.judge(files.listed(bucket.uri, []), ITEMS, workers=0).passed


@pytest.mark.long
def test_the_log_of_a_bucket_is_checked(
    bucket: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = logged(tmp_path / "audit.jsonl", [{"n": number} for number in range(3)]).read_bytes()
    bucket.write("audit.jsonl", data)
    words = ["verify", "--revocations", str(revocation(tmp_path / "r.jsonl")), "--corpus", bucket.uri]
    assert run([*words, "--workers", "0"]) == 0
    bucket.write("audit.jsonl", data.replace(b'"n": 1', b'"n": 2'))
    assert run([*words, "--workers", "0"]) == REFUSED
    assert "BROKEN audit.jsonl, line 3" in capsys.readouterr().out
    assert run([*words, "--also", f"{bucket.uri}/nowhere"]) == MISTAKE
    assert "has no objects" in capsys.readouterr().err


def test_a_key_cannot_lead_out_of_the_folder_that_it_is_copied_to(tmp_path: Path) -> None:
    for name in ("audit/../../x.json", "audit//x.json", "receipts/a\0b"):
        one = buckets.Version(uri="s3://b", name=name, id="null", is_newest=True, size=0)
        with pytest.raises(ValueError, match="is no file of a corpus"):
            buckets.copied([one], ["audit", "receipts"], tmp_path)
    assert list(tmp_path.iterdir()) == []


# Needles and runs.


@given(
    st.lists(st.binary(min_size=6, max_size=20), min_size=1, max_size=8), st.binary(max_size=300), st.data()
)
def test_the_matcher_finds_what_find_finds(words: list[bytes], noise: bytes, data: st.DataObject) -> None:
    planted = data.draw(st.lists(st.sampled_from(words), max_size=4))
    text = noise.join([b"", *planted, b""])
    matcher = needles.Matcher([needles.Needle(word, n, 0, "") for n, word in enumerate(words)])
    expected = {
        (at, number)
        for number, word in enumerate(words)
        for at in range(len(text) - len(word) + 1)
        if text.startswith(word, at)
    }
    assert set(matcher.found(text)) == expected


def test_the_matcher_finds_across_the_pieces_that_it_reads() -> None:
    word = b"across-the-edge"
    for edge in (needles.CHUNK, 2 * needles.CHUNK):
        for shift in range(-len(word), 2):
            data = bytes(edge + shift) + word + bytes(50)
            matcher = needles.Matcher([needles.Needle(word, 0, 0, "")])
            assert list(matcher.found(data)) == [(edge + shift, 0)]


@given(st.lists(st.integers(0, 8191), min_size=16, max_size=40), st.integers(0, 60_000), st.integers(2, 16))
def test_a_run_hashes_the_same_whatever_is_added_to_it(values: list[int], offset: int, width: int) -> None:
    plain, moved = np.array(values), np.array(values) + offset
    assert (numbers.hashes(plain, width) == numbers.hashes(moved.astype(np.uint32), width)).all()
    assert len(numbers.hashes(plain, width)) == len(values) - width + 1
    other = plain.copy()
    other[len(values) // 2] += 1
    differs = numbers.hashes(plain, width) != numbers.hashes(other, width)
    touched = [start <= len(values) // 2 < start + width for start in range(len(differs))]
    assert differs.tolist() == touched


def test_plain_grounds_are_no_evidence() -> None:
    assert len(numbers.telling(np.full(100, 7), numbers.CODES)) == 0
    assert len(numbers.telling(np.arange(100) % 3, numbers.CODES)) == 0
    assert len(numbers.telling(np.arange(100), numbers.CODES)) == 1  # all its runs are one, but for an offset


def test_escapes_within_escapes_are_undone() -> None:
    told = list(texts.unescaped(b'{"a": "\\u0025C3\\u0025A9t\\u00e9 &amp; <b>x</b>"}'))
    assert told[-1][1] == '{"a": "été & x"}'.encode()


# Proofs.


@given(st.sets(st.text("abcd", min_size=1, max_size=3), max_size=40), st.text("abcd", min_size=1, max_size=3))
def test_a_proof_of_absence_holds_and_no_other_does(uids: set[str], uid: str) -> None:
    tree = merkle.Tree(uids)
    proof = tree.absence(uid)
    if uid in uids:
        assert proof is None
        return
    assert proof is not None
    proof = json.loads(json.dumps(proof))
    assert merkle.is_absent(proof, uid, tree.root)
    assert not merkle.is_absent(proof, uid, merkle.Tree({*uids, uid}).root)
    for member in uids:
        assert not merkle.is_absent(proof, member, tree.root)


def test_the_tree_is_that_of_rfc_6962() -> None:
    def leaf(text: str) -> bytes:
        return hashlib.sha256(b"\0" + text.encode()).digest()

    def node(left: bytes, right: bytes) -> bytes:
        return hashlib.sha256(b"\1" + left + right).digest()

    a, b, c, d, e = map(leaf, "abcde")
    whole = node(node(node(a, b), node(c, d)), e)
    assert merkle.Tree(set("edcba")).root == whole.hex()
    assert merkle.Tree(set()).root == hashlib.sha256(b"").hexdigest()


# The log.


def logged(path: Path, bodies: list[dict[str, Any]], keys: Sequence[Any] = ()) -> Path:
    """Entry by entry signed by its key, if that is one."""
    prev, lines = "0" * 64, []
    for body, key in itertools.zip_longest(bodies, keys):
        told = {**body, "prev": prev}
        if key is not None:
            told["signature"] = key.sign(chain.canonical(told)).hex()
        line = json.dumps(told, sort_keys=True).encode()
        lines.append(line)
        prev = hashlib.sha256(line).hexdigest()
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    return path


def test_a_chain_that_was_changed_is_found(tmp_path: Path) -> None:
    path = logged(tmp_path / "audit.jsonl", [{"n": number} for number in range(5)])
    assert chain.check_log(path) == chain.Checked(entries=5, faults=(), signatures="none")
    lines = path.read_bytes().splitlines(keepends=True)
    for wrong in (
        [*lines[:1], lines[1].replace(b'"n": 1', b'"n": 7'), *lines[2:]],
        [*lines[:2], *lines[3:]],
        lines[1:],
        [lines[1], lines[0], *lines[2:]],
        [*lines[:3], b"{\n", *lines[3:]],
    ):
        path.write_bytes(b"".join(wrong))
        assert not chain.check_log(path).is_sound


def test_a_folder_of_entries_is_a_chain_too(tmp_path: Path) -> None:
    prev = "0" * 64
    for number in range(1, 4):
        data = json.dumps({"n": number, "prev": prev}).encode() + b"\n"
        (tmp_path / f"{number:06d}.json").write_bytes(data)
        prev = hashlib.sha256(data).hexdigest()
    assert chain.check_log(tmp_path).is_sound
    (tmp_path / "000002.json").unlink()
    assert "number 2 is gone" in " ".join(chain.check_log(tmp_path).faults)


def test_a_broken_log_fails_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    path = logged(corpus / "audit.jsonl", [{"n": number} for number in range(3)])
    words = ["verify", "--revocations", str(revocation(tmp_path / "r.jsonl")), "--corpus", str(corpus)]
    assert run([*words, "--workers", "0"]) == 0
    path.write_bytes(path.read_bytes().replace(b'"n": 1', b'"n": 2'))
    assert run([*words, "--workers", "0"]) == REFUSED
    assert "BROKEN audit.jsonl, line 3" in capsys.readouterr().out


def test_signatures_are_checked_by_the_keys_that_are_given(tmp_path: Path) -> None:
    ed25519 = pytest.importorskip("cryptography.hazmat.primitives.asymmetric.ed25519")
    key, other = (ed25519.Ed25519PrivateKey.generate() for _ in range(2))
    path = logged(tmp_path / "audit.jsonl", [{"n": 1}, {"n": 2, "said": "é"}], [key, key])
    public = [one.public_key().public_bytes_raw() for one in (key, other)]
    assert chain.check_log(path).signatures == "unverified: no public key was given"
    assert chain.check_log(path, public).signatures == "verified"
    wrong = chain.check_log(path, public[1:])
    assert (wrong.signatures, len(wrong.faults), wrong.is_sound) == ("wrong", 2, False)
    (tmp_path / "key").write_text(public[0].hex())
    assert chain.public_key(tmp_path / "key") == public[0]


def signing(count: int) -> tuple[Any, ...]:
    ed25519 = pytest.importorskip("cryptography.hazmat.primitives.asymmetric.ed25519")
    return tuple(ed25519.Ed25519PrivateKey.generate() for _ in range(count))


@pytest.mark.parametrize(
    ("signers", "signatures", "faults"),
    [
        ("kkk", "verified", []),
        ("--k", "verified", []),
        ("k-k", "verified", []),
        ("---", "none", ["audit.jsonl, line 3, the newest entry, is not signed"]),
        ("kk-", "wrong", ["audit.jsonl, line 3, the newest entry, is not signed"]),
        ("kko", "wrong", ["audit.jsonl, line 3 is not signed by a key that was given"]),
        ("ok-", "wrong", ["line 3, the newest entry, is not signed", "line 1 is not signed by a key"]),
        ("", "none", []),
    ],
)
def test_with_keys_the_newest_entry_speaks_for_all_before_it(
    signers: str, signatures: str, faults: list[str], tmp_path: Path
) -> None:
    """k: the key that is given, o: another, -: unsigned, as by who wrote the whole chain anew."""
    mine, other = signing(2)
    keys = [{"k": mine, "o": other}.get(one) for one in signers]
    path = logged(tmp_path / "audit.jsonl", [{"n": number} for number in range(len(keys))], keys)
    found = chain.check_log(path, [mine.public_key().public_bytes_raw()])
    assert (found.signatures, found.is_sound) == (signatures, not faults)
    assert len(found.faults) == len(faults)
    assert all(told in fault for told, fault in zip(faults, found.faults, strict=True)), found.faults
    assert chain.check_log(path).is_sound  # without keys a chain is a chain


def test_a_signature_that_nobody_can_check_is_a_fault_where_keys_are_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (mine,) = signing(1)
    path = logged(tmp_path / "audit.jsonl", [{"n": 1}, {"n": 2}], [None, mine])
    monkeypatch.setitem(sys.modules, "cryptography.exceptions", None)
    found = chain.check_log(path, [mine.public_key().public_bytes_raw()])
    assert found.signatures == "unverified: the library cryptography is not installed"
    assert found.faults == (
        "audit.jsonl, line 2 has a signature that nobody checked: run `pip install pardalis[signing]`",
    )
    assert chain.check_log(path).is_sound


def test_a_log_whose_signatures_were_taken_away_fails_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (mine,) = signing(1)
    (tmp_path / "corpus").mkdir()
    (tmp_path / "key").write_text(mine.public_key().public_bytes_raw().hex())
    words = ["verify", "--revocations", str(revocation(tmp_path / "r.jsonl")), "--workers", "0"]
    words += ["--corpus", str(tmp_path / "corpus"), "--public-key", str(tmp_path / "key")]
    for key, code in ((mine, 0), (None, REFUSED)):
        logged(tmp_path / "corpus" / "audit.jsonl", [{"n": 1}, {"n": 2}], [key, key])
        assert run(words) == code
        assert ("BROKEN audit.jsonl, line 2, the newest entry" in capsys.readouterr().out) == (key is None)


def test_instants_decide_what_is_in_force(tmp_path: Path) -> None:
    path = revocation(tmp_path / "r.jsonl", effective_at="2026-05-01T00:00:00Z")
    assert revocations.read(path, datetime(2026, 4, 30, tzinfo=UTC)).targets == ()
    assert len(revocations.read(path, datetime(2026, 5, 1, tzinfo=UTC)).targets) >= 1


def test_a_bare_id_is_looked_for_if_it_can_be_no_word_and_no_count(tmp_path: Path) -> None:
    for uid, text, found in (
        ("acme:hammer", "a hammer on a table", False),
        ("acme:hammer", "acme:hammer", True),
        ("acme:img_0001", "see img_0001.jpg", True),
        ("acme:img_0001", "beta:img_0001", False),
        ("acme:1234567", '{"bytes": 1234567}', False),
        ("acme:1234567", "thumbs/1234567.jpg", True),
        ("acme:123456789", '{"n": 123456789}', True),
        ("acme:ab1", "ab1", False),
    ):
        (tmp_path / "a.txt").write_text(text)
        assert bool(judged(tmp_path, list(collect.names_of(uid, uid))).leaks) == found, (uid, text)


def test_long_runs_of_digits_cost_what_they_weigh() -> None:
    began = time.process_time()
    assert list(texts.listed(b"1" * 1_000_000)) == []
    assert time.process_time() - began < 2


# Whom the revocations name, by a corpus of records alone.


def record(asset: str, **changes: Any) -> dict[str, Any]:
    digest = hashlib.sha256(asset.encode()).hexdigest()
    told = {
        "provider": "acme",
        "asset_id": asset,
        "delivery_id": "d1",
        "contributor": {"id": "c1"},
        "license_ids": ["l1", "l2"],
        "releases": {"model": "unlimited", "model_release_ids": ["m1"]},
        "file": {"sha256": digest},
    }
    return {**told, **changes}


RECORDS = [
    record("plain-1"),
    record("theirs-2", contributor={"id": "c2"}),
    record("ended-3", license_ids=["l9"]),
    record("partly-4", license_ids=["l9", "l1"]),
    record("later-5", delivery_id="d2"),
    record("released-6", releases={"model": "limited", "model_release_ids": ["m1", "m2"]}),
    record("hashed-7"),
    record("twin-of-2", file=record("theirs-2")["file"]),
    record("theirs-2", provider="beta"),
]


def of_records(folder: Path, *, without: Collection[str] = ()) -> Path:
    left = [one for one in RECORDS if one["asset_id"] not in without]
    rows = {
        "uid": [f"{one['provider']}:{one['asset_id']}" for one in left],
        "record": [json.dumps(one) for one in left],
    }
    (folder / "shards" / "records").mkdir(parents=True)
    pq.write_table(pa.table(rows), folder / "shards" / "records" / "records.parquet")
    made = {
        "example": ["caption:0011223344", "edit:5566778899", "edit:aabbccddee"],
        "sources": [["acme:plain-1"], ["acme:theirs-2", "acme:plain-1"], ["derived:0123456789"]],
        "derived": [[], ["derived:0123456789"], ["derived:9876543210"]],
    }
    pq.write_table(pa.table(made), folder / "shards" / "made.parquet")
    return folder


def target(kind: str, value: str, reason: str = "contributor_opt_out") -> revocations.Target:
    owner = "" if kind == "content_sha256" else "acme"
    return revocations.Target(kind=kind, provider=owner, value=value, reason=reason)


@pytest.mark.parametrize(
    ("kind", "value", "named"),
    [
        ("asset", "plain-1", {"acme:plain-1"}),
        ("contributor", "c2", {"acme:theirs-2", "acme:twin-of-2"}),
        ("license", "l9", {"acme:ended-3"}),
        ("delivery", "d2", {"acme:later-5"}),
        ("model_release", "m2", {"acme:released-6"}),
        ("content_sha256", record("hashed-7")["file"]["sha256"], {"acme:hashed-7"}),
        ("contributor", "nobody", set()),
    ],
)
def test_every_kind_of_target_leads_to_its_assets(
    kind: str, value: str, named: set[str], tmp_path: Path
) -> None:
    found = collect.collect(of_records(tmp_path), [], [target(kind, value)], workers=0)
    assert set(found.assets) == named
    assert found.unread == ()


def test_what_concerns_the_picture_takes_it_from_other_providers_too(tmp_path: Path) -> None:
    folder = of_records(tmp_path)
    own = collect.collect(folder, [], [target("asset", "theirs-2")], workers=0)
    assert set(own.assets) == {"acme:theirs-2", "acme:twin-of-2"}
    every = collect.collect(folder, [], [target("asset", "theirs-2", "privacy_request")], workers=0)
    assert set(every.assets) == {"acme:theirs-2", "acme:twin-of-2", "beta:theirs-2"}
    ended = collect.collect(folder, [], [target("asset", "theirs-2", "license_terminated")], workers=0)
    assert set(ended.assets) == {"acme:theirs-2"}


def test_what_was_made_of_a_revoked_asset_is_looked_for_too(tmp_path: Path) -> None:
    found = collect.collect(of_records(tmp_path / "a"), [], [target("asset", "theirs-2")], workers=0)
    (tmp_path / "b").mkdir()
    for text, leaks in (
        ("edit:5566778899", True),
        ("see derived:0123456789.", True),
        ('{"of": "derived:9876543210"}', True),
        ("edit:aabbccddee", True),
        ("caption:0011223344", False),
    ):
        (tmp_path / "b" / "a.txt").write_text(text)
        verdict = judged(tmp_path / "b", list(found.items))
        assert [leak.uid for leak in verdict.leaks] == ["acme:theirs-2"] * leaks, text


def test_a_longer_name_that_another_follows_at_once_is_not_the_shorter_one() -> None:
    needle = needles.Needle(b"emoji:1f9cd", 0, 0, "id")
    others = naming.digests(["emoji:1f9cd-1f3fb", "emoji:1f9ce"])
    for data, whole in ((b"emoji:1f9cd-1f3fbemoji:1f9ce", False), (b"emoji:1f9cd-thumb", True)):
        assert naming.stands(needle, memoryview(data), 0, (0, len(data)), others) == whole


# What a pass is worth.


def answered(words: Sequence[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, Any], str]:
    """(exit code, the answer as JSON, the last line on a terminal)."""
    capsys.readouterr()
    code = run(["verify", *words, "--workers", "0", "--json"])
    answer = json.loads(capsys.readouterr().out)
    assert run(["verify", *words, "--workers", "0"]) == code
    return code, answer, capsys.readouterr().out.splitlines()[-1]


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"effective_at": "2999-01-01T00:00:00Z"}, "revocation acme-r-000017 is not in force yet"),
        ({"action": "restrict"}, "revocation acme-r-000017 ends uses and removes nothing"),
        (
            {"target_type": "content_pdq", "targets": ["ab" * 32]},
            "revocation acme-r-000017 names fingerprints, of which a person judges",
        ),
        (None, "it has no records"),
    ],
)
def test_revocations_that_take_nothing_back_are_the_users_mistake(
    changes: dict[str, Any] | None, why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = revocation(tmp_path / "r.jsonl", **(changes or {}))
    if changes is None:
        path.write_text("\n")
    (tmp_path / "c").mkdir()
    for more in ([], ["--collect", str(tmp_path / "e")]):
        assert run(["verify", "--revocations", str(path), "--corpus", str(tmp_path / "c"), *more]) == MISTAKE
        told = capsys.readouterr().err
        assert f"--revocations {path} takes nothing back: {why}; give one that removes or replaces" in told
    assert not (tmp_path / "e").exists()


@pytest.mark.parametrize("kind", ["contributor", "license", "delivery", "model_release"])
def test_nothing_is_proved_of_whom_only_evidence_leads_to(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An asset of theirs may lie there, and nobody knows it for one."""
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "a.txt").write_text("acme:theirs-2")
    path = revocation(tmp_path / "r.jsonl", target_type=kind, targets=["c2"])
    words = ["--revocations", str(path), "--corpus", str(tmp_path / "c")]
    code, answer, last = answered(words, capsys)
    assert (code, answer["passed"], answer["looked_for_all"], answer["leaks"]) == (REFUSED, False, False, [])
    assert answer["unproved"] == [f"{kind} acme:c2"]
    assert last.startswith("passed as far as it looked: nothing of 0 revoked assets in 1 files")
    assert last.endswith("8 things were not looked for, and nothing is proved of 1 targets: exit code 3")


def test_evidence_of_other_targets_proves_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    corpus, after = of_records(tmp_path / "a"), of_records(tmp_path / "b", without=("plain-1", "later-5"))
    (after / "shards" / "made.parquet").unlink()
    one = revocation(tmp_path / "one.jsonl", target_type="delivery", targets=["d2"])
    both = revocation(tmp_path / "both.jsonl", targets=["plain-1"])
    both.write_text(both.read_text() + one.read_text())
    gathered = str(tmp_path / "evidence")
    collects = ["verify", "--corpus", str(corpus), "--collect", gathered, "--workers", "0"]
    assert run([*collects, "--revocations", str(one)]) == 0
    at = ["--corpus", str(after), "--evidence", gathered, "--revocations"]
    code, answer, last = answered([*at, str(one)], capsys)
    assert (code, answer["passed"], answer["looked_for_all"], answer["unproved"]) == (0, True, False, [])
    assert "captions of 1 of 1 assets: the corpus holds none" in answer["not_looked_for"][0]
    missing = len(answer["not_looked_for"])
    assert last.endswith(f" MB; {missing} things were not looked for")
    code, answer, last = answered([*at, str(both)], capsys)
    assert (code, answer["leaks"], answer["unproved"]) == (REFUSED, [], ["asset acme:plain-1"])
    assert last.endswith(
        f"; {missing + 1} things were not looked for, and nothing is proved of 1 targets: exit code 3"
    )


def test_only_what_was_looked_for_whole_is_said_to_have_passed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "c").mkdir()
    path = revocation(tmp_path / "r.jsonl", target_type="asset", targets=["plain-1"])
    mine = revocations.read(path, datetime(2026, 7, 1, tzinfo=UTC)).targets
    evidence.write(tmp_path / "e", [Item("target", "", "", bytes.fromhex(mine[0].sha256))])
    words = ["--revocations", str(path), "--corpus", str(tmp_path / "c"), "--evidence", str(tmp_path / "e")]
    code, answer, last = answered(words, capsys)
    assert (code, answer["passed"], answer["looked_for_all"]) == (0, True, True)
    assert last.startswith("passed: nothing of ")
    later = revocation(tmp_path / "later.jsonl", effective_at="2999-01-01T00:00:00Z")
    path.write_text(path.read_text() + later.read_text())
    code, answer, last = answered(words, capsys)
    assert (code, answer["passed"], answer["looked_for_all"]) == (0, True, False)
    assert last.endswith("; 1 things were not looked for")


def test_a_key_without_a_log_checks_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "c").mkdir()
    (tmp_path / "key").write_text("ab" * 32)
    words = ["--revocations", str(revocation(tmp_path / "r.jsonl")), "--corpus", str(tmp_path / "c")]
    _, answer, _ = answered([*words, "--public-key", str(tmp_path / "key")], capsys)
    told = "signatures: the corpus has no entry of a log that --public-key could be of"
    assert answer["not_looked_for"][-1] == told


def test_evidence_that_was_gathered_too_late_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    after = of_records(tmp_path / "a", without=["later-5"])
    path = revocation(tmp_path / "r.jsonl", target_type="delivery", targets=["d2"])
    words = ["--revocations", str(path), "--corpus", str(after)]
    assert run(["verify", *words, "--collect", str(tmp_path / "e"), "--workers", "0"]) == 0
    told = (
        "content of 1 of 1 targets: the corpus has no asset that goes with them, as after `pardalis revoke`"
    )
    assert f"cannot be looked for: {told}" in capsys.readouterr().out.splitlines()
    _, answer, _ = answered([*words, "--evidence", str(tmp_path / "e")], capsys)
    assert answer["not_looked_for"] == [told]


def test_what_ended_by_its_licence_is_proved_by_a_record_that_names_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As --revocations says; one that another licence still names stays, and names the ended one too."""
    before, after = of_records(tmp_path / "a"), of_records(tmp_path / "b", without=["ended-3"])
    path = revocation(tmp_path / "r.jsonl", target_type="license", targets=["l9"], reason="license_expired")
    gathered = str(tmp_path / "evidence")
    at = ["--revocations", str(path), "--corpus"]
    assert run(["verify", *at, str(before), "--collect", gathered, "--workers", "0"]) == 0
    assert "evidence of 1 assets" in capsys.readouterr().out
    code, answer, _ = answered([*at, str(before), "--evidence", gathered], capsys)
    assert (code, {leak["uid"] for leak in answer["leaks"]}) == (REFUSED, {"acme:ended-3", ""})
    code, answer, _ = answered([*at, str(after), "--evidence", gathered], capsys)
    assert (code, answer["revoked"], answer["unproved"]) == (0, ["acme:ended-3"], [])


# What a duplicate that takes the place of another has in common with it.

STAYS, TWIN = "acme:stays-000001", "acme:twin-000002"
CODES = [np.random.default_rng(seed).integers(0, 8192, 60).tolist() for seed in range(2)]
WORDS = "Two friends on a bench by the sea"


def of_twin() -> list[Item]:
    """Evidence of an asset, gathered when another had rows of tokens too, and its twin only of records."""
    runs = numbers.telling(np.array(CODES[0] + CODES[1]), numbers.CODES)
    return [
        *ITEMS,
        Item("codes", UID, str(numbers.CODES), runs.tobytes()),
        *harvest.of_vector(UID, np.arange(1, 33, dtype=np.float32)),
        Item("text", UID, "title", WORDS.encode()),
        Item("survivors", "", "", naming.digests([STAYS, TWIN]).tobytes()),
        Item("newest_id", "", "", (5).to_bytes(8, "little", signed=True)),
        Item("rows", "", "tokenize", naming.digests([STAYS]).tobytes()),
        Item("rows", "", "index", naming.digests([STAYS]).tobytes()),
        Item("rows", "", "records", naming.digests([STAYS, TWIN]).tobytes()),
    ]


def planted(folder: Path, kind: str, uid: str, **columns: Any) -> None:
    path = folder / "shards" / kind / "k" / f"{uid.partition(':')[2] or 'cache'}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"uid": [uid], **columns}), path)


def codes_of(which: int) -> Any:
    return pa.array([CODES[which]], pa.list_(pa.uint16()))


def test_codes_of_a_twin_that_newly_has_a_row_are_told_and_no_leak(tmp_path: Path) -> None:
    vector = pa.array([list(range(1, 33))], pa.list_(pa.float32()))
    planted(tmp_path, "tokenize", TWIN, codes=codes_of(0), vector=vector)
    verdict = judged(tmp_path, of_twin())
    assert (verdict.leaks, verdict.untold, verdict.shared_with) == ([], 0, {UID: {TWIN}})


@pytest.mark.parametrize(("kind", "uid"), [("tokenize", STAYS), ("records", TWIN), ("caches", TWIN)])
def test_codes_in_a_row_of_one_that_had_such_rows_are_a_leak(kind: str, uid: str, tmp_path: Path) -> None:
    """So they are in a kind of which nobody had rows: no artifact made them there for its own reasons."""
    planted(tmp_path, kind, uid, codes=codes_of(0))
    verdict = judged(tmp_path, of_twin())
    assert {(leak.kind, leak.uid) for leak in verdict.leaks} == {("codes", UID)}
    assert verdict.shared_with == {}


def test_that_a_run_is_shared_says_nothing_of_another_run(tmp_path: Path) -> None:
    planted(tmp_path, "tokenize", TWIN, codes=codes_of(0))
    planted(tmp_path, "tokenize", STAYS, codes=codes_of(1))
    verdict = judged(tmp_path, of_twin())
    assert {(leak.file, leak.kind) for leak in verdict.leaks} == {
        ("shards/tokenize/k/stays-000001.parquet", "codes")
    }
    assert verdict.shared_with == {UID: {TWIN}}


def test_words_in_that_new_row_are_a_leak(tmp_path: Path) -> None:
    planted(tmp_path, "tokenize", TWIN, codes=codes_of(0), said=[WORDS])
    verdict = judged(tmp_path, of_twin())
    assert {(leak.kind, leak.place) for leak in verdict.leaks} == {("text", "row 0, column said")}
    assert verdict.shared_with == {UID: {TWIN}}


@pytest.mark.parametrize(
    ("number", "owner", "leaks"), [(9, TWIN, 0), (9, "", 1), (9, STAYS, 1), (4, TWIN, 1)]
)
def test_a_vector_under_an_id_that_came_later_is_of_whoever_has_that_id(
    number: int, owner: str, leaks: int, tmp_path: Path
) -> None:
    vector = np.arange(1, 33, dtype=np.float32)[None]
    index = faiss.IndexIDMap2(faiss.IndexFlatIP(32))
    index.add_with_ids(vector / np.linalg.norm(vector), np.array([number]))
    planted(tmp_path, "index", owner, id=pa.array([number], pa.int64()))
    (tmp_path / "shards/index/k/segment.faiss").write_bytes(bytes(faiss.serialize_index(index)))
    verdict = judged(tmp_path, of_twin())
    assert [leak.kind for leak in verdict.leaks] == ["vector"] * leaks
    assert verdict.shared_with == ({} if leaks else {UID: {TWIN}})


def test_words_that_two_of_the_revoked_have_in_common_are_told_once(tmp_path: Path) -> None:
    items = [Item("text", uid, "title", WORDS.encode()) for uid in ("acme:a1", "acme:a2")]
    (tmp_path / "a.txt").write_text(WORDS)
    assert [leak.uid for leak in judged(tmp_path, items).leaks] == ["acme:a1"]
