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
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

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
    files,
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


def of_records(folder: Path) -> Path:
    rows = {
        "uid": [f"{one['provider']}:{one['asset_id']}" for one in RECORDS],
        "record": [json.dumps(one) for one in RECORDS],
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
