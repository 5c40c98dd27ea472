"""Laws of credentials: those in the environment, in addresses, settings and deliveries are told nowhere.

Each is planted as a canary. Commands run as from a terminal, and then everything that they said and wrote is
searched: both streams, the corpus, its logs, the cache folder, traces. A delivery is somebody else's, so only
what we made of it counts.
"""

from __future__ import annotations

import itertools
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from infra import s3 as s3_clients
from infra.cli import MISTAKE
from infra.ending import FAILED, end
from pipeline import tables
from pipeline.deliveries import table
from tests.hostile.made import AS_OF, SHARD, Parcel, license_, lines, revocation, tarred
from tests.seaweed import KEY

from .canaries import (
    ADDRESS,
    MARK,
    NUM_WRONG,
    QUERY,
    Watched,
    as_table,
    as_tar,
    found,
    put_table,
    records_in,
    sealed,
    wrong_records,
)
from .conftest import TINY

pytestmark = pytest.mark.plan
VARIABLES = (
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "RAY_AUTH_TOKEN",
    "HF_TOKEN",
    "SOME_API_KEY",
    "DB_PASSWORD",
)
SETTINGS = [
    'pipeline.aws_secret_access_key = "{0}"',
    'pipeline.purpose.model = "https://user:{0}@host.example/"',
    'pipeline.anything = "{0}"',
    'pipeline.filters.min_side = "https://user:{0}@host.example/?sig={0}"',
    'pipeline.filters = {{ password = "{0}" }}',
    'storage.secret = "{0}"',
    '"https://user:{0}@host.example/" = 1',
    "pipeline.aws_secret_access_key = {0}",
    "aws_secret_access_key {0}",
]


@pytest.fixture
def watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Watched:
    for number, name in enumerate(VARIABLES):
        monkeypatch.setenv(name, f"{MARK}-in-{number}")
    for name in ("PARDALIS_CORPUS", "PARDALIS_TRACE"):
        monkeypatch.delenv(name, raising=False)
    root = tmp_path / "watched"
    for name in ("HOME", "XDG_CACHE_HOME", "TMPDIR"):
        (root / name.lower()).mkdir(parents=True)
        monkeypatch.setenv(name, str(root / name.lower()))
    # In this process the variable was read long ago.
    monkeypatch.setattr(tempfile, "tempdir", str(root / "tmpdir"))
    monkeypatch.chdir(root)
    return Watched(root, capfd)


@pytest.fixture
def parcel(tmp_path: Path) -> Parcel:
    return Parcel(tmp_path / "delivery")


@pytest.fixture
def tiny_toml(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.toml"
    path.write_text(TINY)
    return path


def test_a_canary_that_is_written_is_found(watched: Watched) -> None:
    rows = pa.table({"fault": [f"invalid_record: got {MARK}1"]})
    written = {
        "a.jsonl": json.dumps({"message": f"x{MARK}1"}).encode(),
        "b.parquet": tables.to_parquet(rows),
        "c.arrow": tables.to_ipc(rows),
        "d.tar": tarred({"a.json": f"{MARK}1".encode()}),
        f"{MARK}1": b"",
        "clean.parquet": tables.to_parquet(pa.table({"fault": ["none"]})),
    }
    for name, data in written.items():
        (watched.root / name).write_bytes(data)
    assert {Path(path).name for path in found(watched.root)} == {*written} - {"clean.parquet"}
    watched.capfd.readouterr()
    with pytest.raises(AssertionError):
        watched.said()


@pytest.mark.parametrize("form", ["tar", "table"])
def test_a_record_with_a_credential_is_a_fault_that_does_not_repeat_it(
    form: str, watched: Watched, parcel: Parcel, tiny_toml: Path
) -> None:
    if form == "tar":
        parcel.good(as_tar())
    else:
        as_table(parcel)
    settled = ["--engine", "inline", "--config", tiny_toml]
    code, out, err = watched.on_corpus("ingest", parcel.folder, "--check", "--json", "--as-of", AS_OF)
    assert code == 0, err
    assert json.loads(out)["deliveries"][0]["decisions"]["kept"] == 1, out
    assert watched.on_corpus("ingest", parcel.folder, "--as-of", AS_OF, *settled)[0] == 0
    assert watched.on_corpus("build", "--to", "filter", *settled)[0] == 0
    for words in (["status"], ["status", "--json"], ["logs"], ["logs", "--json"], ["explain", "acme:kept"]):
        assert watched.on_corpus(*words)[0] == 0
    for i in range(1, NUM_WRONG):
        code, out, _ = watched.on_corpus("explain", f"acme:w{i:02d}", "--json")
        assert code == 0
        assert json.loads(out)[0]["outcome"] != "kept"
    told = records_in(watched.corpus)
    [kept] = [json.loads(row["record"]) for row in told.values() if row["record"]]
    assert kept["file"].get("uri") == ("https://images.example/a.jpg" if form == "tar" else None)
    assert kept["extra"]["page"] == "https://a.example/"
    assert kept["extra"]["source"] == "https://images.example/a.jpg"
    assert kept["credit_line"] == "by https://images.example/a.jpg"
    assert all("credential" in told[f"acme:w{i:02d}"]["fault"] for i in range(1, 5))


def test_an_address_with_a_password_is_not_kept_to_be_followed(watched: Watched, parcel: Parcel) -> None:
    put_table(parcel, [table.cells(asset) for asset, _ in itertools.islice(wrong_records(), 1)])
    sealed(parcel)
    assert watched.on_corpus("ingest", parcel.folder, "--as-of", AS_OF, "--engine", "inline")[0] == 0
    assert "userinfo" in watched.on_corpus("explain", "acme:w00")[1]


DELIVERIES = [
    {"provider": ADDRESS},
    {"delivery_id": ADDRESS},
    {"supersedes": [ADDRESS]},
    {"created_at": ADDRESS},
    {"counts": {ADDRESS: 1}},
    {"files": [{"path": ADDRESS, "sha256": ADDRESS, "bytes": 1, "role": ADDRESS}]},
    {"allowed_hosts": [ADDRESS]},
    {"every_asset": {"credit_line": ADDRESS}},
    {"every_asset": {ADDRESS: "x"}},
    {"signature": {"alg": "ed25519", "key_id": ADDRESS, "value": "x"}},
    {ADDRESS: "x"},
    {"password": f"{MARK}2"},
]


@pytest.mark.parametrize("change", DELIVERIES, ids=lambda change: next(iter(change))[:12])
def test_a_delivery_with_a_credential_is_refused_by_its_field(
    change: dict[str, Any], watched: Watched, parcel: Parcel
) -> None:
    parcel.good(**change)
    for words in (["--check"], ["--engine", "inline"]):
        code, _, err = watched.on_corpus("ingest", parcel.folder, *words)
        assert code == MISTAKE
        assert "delivery.json" in err


@pytest.mark.parametrize(
    ("path", "document"),
    [
        ("licenses.jsonl", license_(licensor={"name": ADDRESS})),
        ("licenses.jsonl", license_(odrl=ADDRESS)),
        ("licenses.jsonl", license_(license_id=ADDRESS)),
        ("licenses.jsonl", license_(attribution_template=f"{{title}} {ADDRESS}")),
        ("licenses.jsonl", license_(valid_from=ADDRESS)),
        ("revocations.jsonl", revocation(ticket=ADDRESS)),
        ("revocations.jsonl", revocation(targets=[ADDRESS])),
    ],
)
def test_a_licence_or_revocation_with_a_credential_refuses_its_delivery(
    path: str, document: dict[str, Any], watched: Watched, parcel: Parcel
) -> None:
    for name, data in {SHARD: tarred({}), "licenses.jsonl": lines(license_()), path: lines(document)}.items():
        parcel.put(name, data)
    parcel.tell()
    code, _, err = watched.on_corpus("ingest", parcel.folder, "--engine", "inline")
    assert (code, path in err) == (MISTAKE, True)


@pytest.mark.parametrize(
    "address",
    [
        f"s3://user:{MARK}1@bucket/corpus",
        f"s3://{MARK}1@bucket/corpus",
        f"s3://key:{MARK}1/x+y@bucket/corpus",
        f"s3://bucket/corpus?X-Amz-Signature={MARK}1",
        f"https://user:{MARK}1@host.example/corpus?{QUERY}",
    ],
)
def test_an_address_with_a_credential_is_refused_and_not_repeated(
    address: str, watched: Watched, parcel: Parcel, monkeypatch: pytest.MonkeyPatch
) -> None:
    parcel.good()
    for words in (["status"], ["explain", "a:1"], ["logs"], ["build"], ["ingest", parcel.folder, "--check"]):
        assert watched.run(*words, "--corpus", address)[0] == MISTAKE
    assert watched.on_corpus("ingest", address, "--engine", "inline")[0] == MISTAKE
    assert watched.run("status", "--corpus", "x", address)[0] == MISTAKE
    assert watched.run("submit", "--", "status", "--corpus", address)[0] == MISTAKE
    assert watched.run("submit", "--address", f"http://user:{MARK}1@head:8265", "--", "status")[0] == MISTAKE
    monkeypatch.setenv("PARDALIS_CORPUS", address)
    assert watched.run("status")[0] == MISTAKE
    assert watched.run("submit", "--", "status")[0] == MISTAKE


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_setting_with_a_credential_is_refused_and_not_repeated(
    setting: str, watched: Watched, parcel: Parcel, tmp_path: Path
) -> None:
    parcel.good()
    line = setting.format(f"{MARK}1")
    (tmp_path / "mine.toml").write_text(f"[tokenizer]\n{line}\n" if line[0] == "[" else f"{line}\n")
    ingest = ["ingest", parcel.folder, "--as-of", AS_OF, "--engine", "inline"]
    assert watched.on_corpus(*ingest, "--config", tmp_path / "mine.toml")[0] == MISTAKE
    assert watched.on_corpus(*ingest, "--set", line)[0] == MISTAKE
    assert watched.on_corpus(*ingest, "--config", ADDRESS)[0] == MISTAKE


def test_a_bug_whose_message_holds_a_secret_leaves_a_trace_without_it(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    for message in (ADDRESS, f"{MARK}-in-0", f"token={MARK}1"):
        for hint in ("", "1"):
            monkeypatch.setenv("PARDALIS_TRACE", hint)
            with pytest.raises(TypeError) as raised:
                np.dtype(message)
            raised.value.add_note(f"while {message}")
            assert end(raised.value, ["status", "--corpus", ADDRESS]) == FAILED
            watched.said()
    assert [*(watched.root / "xdg_cache_home" / "pardalis" / "traces").iterdir()]


@pytest.mark.parametrize("user", ["", f"user:{MARK}1@"])
def test_a_store_that_does_not_take_the_secret_is_told_without_it(
    user: str, s3_server: str, watched: Watched, parcel: Parcel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server.replace("://", f"://{user}"))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.delenv("AWS_SESSION_TOKEN")
    parcel.good()
    s3_clients.forget()
    try:
        for words in (["status"], ["ingest", parcel.folder, "--engine", "inline"], ["logs"]):
            assert watched.run(*words, "--corpus", "s3://corpora/secrets")[0] == FAILED
    finally:
        s3_clients.forget()
