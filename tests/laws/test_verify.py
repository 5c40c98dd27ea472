"""The witness: it passes a corpus that was built without what was revoked, and finds whatever is put back."""

from __future__ import annotations

import json
import shutil
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from infra.cli import MISTAKE, run
from infra.ending import REFUSED
from pipeline import contract
from pipeline.verify import evidence, files, judging, revocations
from pipeline.verify.evidence import Item
from pipeline.verify.judging import Verdict

from . import leaks
from .conftest import TINY, Deliveries, license_, sample
from .leaks import PLANTS, Gone

pytestmark = [pytest.mark.plan, pytest.mark.long, pytest.mark.timeout(300)]

GONE = (5, 12, 22)
BY_CONTRIBUTOR = (20, 21)
SHARED = (3, 5)
"""Two assets with the same words, of which one goes."""
NAMES_ANOTHER = (7, 12)
"""One that stays, and whose own words have the id of one that goes, without its provider."""
TARGETS = [
    {"target_type": "asset", "targets": [f"shot-{number:04d}" for number in GONE]},
    {"target_type": "contributor", "targets": ["who-left"]},
    {"target_type": "license", "targets": ["acme-ended"]},
    {"target_type": "model_release", "targets": ["model-release-9"]},
]
TITLE = "Two friends on a bench by the sea"


def samples() -> list[Any]:
    found = []
    for number in range(24):
        changes: dict[str, Any] = {"asset_id": f"shot-{number:04d}"}
        if number in BY_CONTRIBUTOR:
            changes["contributor"] = {"id": "who-left", "display_name": "Who Left"}
        if number in SHARED:
            changes["title"] = TITLE
        if number == NAMES_ANOTHER[0]:
            changes["keywords"] = [f"shot-{NAMES_ANOTHER[1]:04d}"]
        found.append(sample(number, **changes))
    return found


class World:
    """A corpus, the same without what is revoked, and the evidence of the difference."""

    def __init__(self, root: Path) -> None:
        self.root = root
        deliveries = Deliveries(root)
        config = root / "tiny.toml"
        config.write_text(TINY)
        every = samples()
        left = [one for number, one in enumerate(every) if number not in (*GONE, *BY_CONTRIBUTOR)]
        self.before, self.after = root / "before", root / "after"
        for corpus, chosen in ((self.before, every), (self.after, left)):
            uri = deliveries.write(chosen, {"": license_()})
            options = ["--corpus", str(corpus), "--config", str(config), "--engine", "inline"]
            assert run(["ingest", uri, "--as-of", "2026-06-01T00:00:00Z", *options]) == 0
            assert run(["build", *options]) == 0
        self.revocations = root / "revocations.jsonl"
        example = contract.template()["revocation"]
        told = {**example, "effective_at": "2026-05-01T00:00:00Z", "action": "remove"}
        lines = [json.dumps({**told, "revocation_id": f"r{n}", **one}) for n, one in enumerate(TARGETS)]
        self.revocations.write_text("\n".join(lines))
        self.evidence = root / "evidence.parquet"
        words = ["verify", "--revocations", str(self.revocations), "--corpus", str(self.before)]
        assert run([*words, "--collect", str(self.evidence), "--workers", "2"]) == 0
        self.items = evidence.read(self.evidence)

    def judged(self, corpus: Path, **options: Any) -> Verdict:
        return judging.judge(files.listed(corpus, []), self.items, workers=0, **options)

    def gone(self) -> Gone:
        """The last of those that were revoked by their id: a fresh corpus does not give its index id anew."""
        uid = f"acme:shot-{GONE[-1]:04d}"
        rows = self.row("shards/features/*/features.arrow", uid)
        catalog = self.row("shards/decide/*/rows.parquet", uid)
        tokens = self.row("shards/tokenize/*/tokens.arrow", uid)
        vectors = self.row("shards/embed/*/embeddings.arrow", uid)
        image, text = (np.array(vectors[name], np.float32) for name in ("image_vector", "text_vector"))
        both = image / np.linalg.norm(image) + text / np.linalg.norm(text)
        return Gone(
            uid=uid,
            caption=catalog["description"],
            sha256=catalog["sha256"],
            picture=self.member(f"{uid.replace(':', '_')}.jpg"),
            codes=tokens["codes"],
            words=tokens["texts"][0]["ids"],
            image_vector=image,
            features=np.array(rows["image_features"], np.float32),
            document_vector=(both / np.linalg.norm(both)).astype(np.float32),
            phash=rows["phash"],
            structure=rows["structure"],
            index_id=self.row("shards/index/*/members.arrow", uid)["id"],
            contributor="who-left",
            license="acme-ended",
            release="model-release-9",
            corpus=self.after,
        )

    def row(self, pattern: str, uid: str) -> dict[str, Any]:
        for file in sorted(self.before.glob(pattern)):
            table = (
                pq.read_table(file) if file.suffix == ".parquet" else pa.ipc.open_file(str(file)).read_all()
            )
            for row in table.to_pylist():
                if row["uid"] == uid:
                    return row
        raise AssertionError(pattern)

    def member(self, name: str) -> bytes:
        import tarfile  # noqa: PLC0415

        for file in self.before.glob("shards/images/*/images.tar"):
            with tarfile.open(file) as tar:
                if name in tar.getnames():
                    found = tar.extractfile(name)
                    assert found is not None
                    return found.read()
        raise AssertionError(name)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("verify"))


@pytest.fixture(scope="module")
def gone(world: World) -> Gone:
    return world.gone()


def test_a_corpus_that_was_built_without_them_passes(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["verify", "--revocations", str(world.revocations), "--corpus", str(world.after)]
    capsys.readouterr()
    assert run([*words, "--evidence", str(world.evidence), "--json", "--workers", "2"]) == 0, (
        capsys.readouterr()
    )
    answer = json.loads(capsys.readouterr().out)
    assert (answer["passed"], answer["leaks"], answer["unread"]) == (True, [], [])
    assert {"acme:shot-0005", "acme:shot-0020"} <= set(answer["revoked"])
    assert answer["unproved"] == []
    assert "content of 2 of 6 targets: the corpus has no asset" in answer["not_looked_for"][-1]
    proved = {one["artifact"]: one for one in answer["artifacts"]}
    assert {"decide", "embed", "index", "images", "registers/ids", "pack", "neighbors"} <= proved.keys()
    assert all(
        one["present"] == [] and len(one["absent"]) == len(answer["revoked"]) for one in proved.values()
    )


def test_the_corpus_before_fails_in_every_kind_of_artifact(world: World) -> None:
    verdict = world.judged(world.before)
    kinds = {leak.file.split("/")[1] for leak in verdict.leaks if leak.file.startswith("shards/")}
    carrying = {"records", "decide", "images", "filter", "features", "screen", "split", "tokenize", "embed"}
    assert carrying | {"codes", "index", "queries", "neighbors", "pack"} <= kinds
    assert {leak.kind for leak in verdict.leaks} >= {
        "id",
        "digest",
        "text",
        "blob",
        "codes",
        "vector",
        "integer",
    }
    assert verdict.unread == []


@pytest.mark.parametrize("name", sorted(PLANTS))
def test_a_leak_is_found(name: str, world: World, gone: Gone, tmp_path: Path) -> None:
    file, place = PLANTS[name](gone, tmp_path / "corpus")
    verdict = world.judged(tmp_path / "corpus")
    told = [(leak.file, leak.place) for leak in verdict.leaks]
    assert any(found == file and place in where for found, where in told), (verdict.leaks, verdict.unread)
    assert not verdict.passed


def test_there_are_more_than_30_kinds_of_leak() -> None:
    assert len(PLANTS) > 60


def test_evidence_is_for_its_owner_alone_and_outside_of_the_corpus(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    assert stat.S_IMODE(world.evidence.stat().st_mode) == 0o600
    words = ["verify", "--revocations", str(world.revocations), "--corpus", str(world.before)]
    assert run([*words, "--collect", str(world.evidence)]) == MISTAKE
    assert "exists; name another file" in capsys.readouterr().err
    assert run([*words, "--collect", str(world.before / "evidence.parquet")]) == MISTAKE
    assert "keep the content outside of it" in capsys.readouterr().err


def test_what_an_asset_that_stays_has_too_is_no_evidence(world: World) -> None:
    texts = {item.value.decode() for item in world.items if item.kind == "text"}
    assert TITLE not in texts
    assert any("number 5" in text for text in texts)
    bare = {item.uid for item in world.items if item.kind == "id" and item.note == "bare"}
    assert {f"acme:shot-{number:04d}" for number in GONE} - bare == {f"acme:shot-{NAMES_ANOTHER[1]:04d}"}


def test_what_came_later_and_is_alike_is_told_and_no_leak(world: World, gone: Gone, tmp_path: Path) -> None:
    table = pa.table({"uid": ["acme:brand-new"], "description": [gone.caption]})
    leaks.put(tmp_path, "shards/decide/k/rows.parquet", leaks.parquet(table))
    verdict = world.judged(tmp_path)
    assert (verdict.leaks, verdict.shared_with) == ([], {gone.uid: {"acme:brand-new"}})
    stayed = pa.table({"uid": ["acme:shot-0003"], "description": [gone.caption]})
    leaks.put(tmp_path, "shards/decide/k/rows.parquet", leaks.parquet(stayed))
    assert [leak.place for leak in world.judged(tmp_path).leaks] == ["row 0, column description"]


def test_without_evidence_it_says_what_it_cannot_look_for(
    world: World, gone: Gone, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of assets that are named by themselves at least their names; of those of a contributor nothing, which
    is no proof.
    """
    leaks.put(tmp_path, "a.txt", gone.caption.encode())
    by_id = tmp_path.parent / f"{tmp_path.name}.jsonl"
    by_id.write_text(world.revocations.read_text().splitlines()[0])
    at = ["--corpus", str(tmp_path), "--workers", "0"]
    assert run(["verify", "--revocations", str(by_id), *at]) == 0
    told = capsys.readouterr().out.splitlines()
    assert "not looked for: captions and titles: no evidence was given" in told
    assert told[-1].startswith("passed as far as it looked: nothing of 3 revoked assets in 1 files")
    assert told[-1].endswith("; 8 things were not looked for")
    assert run(["verify", "--revocations", str(world.revocations), *at]) == REFUSED
    told = capsys.readouterr().out.splitlines()
    assert "nothing is proved of contributor acme:who-left: no evidence was gathered" in told
    assert told[-1].startswith("passed as far as it looked")
    assert told[-1].endswith("and nothing is proved of 3 targets: exit code 3")
    leaks.put(tmp_path, "b.txt", gone.uid.encode())
    assert run(["verify", "--revocations", str(by_id), *at]) == REFUSED
    assert f"LEAK b.txt: offset 0: its name (uid) of {gone.uid}" in capsys.readouterr().out


def test_the_register_of_revocations_and_the_log_may_name_them(
    world: World, gone: Gone, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("registers/revocations/a", "registers/erased/b", "receipts/notes.txt"):
        leaks.put(tmp_path, name, gone.uid.encode())
    verdict = world.judged(tmp_path)
    assert verdict.leaks == []
    assert verdict.allowed == {"registers/revocations/": 1, "registers/erased/": 1, "receipts/": 1}
    outside = judging.judge(
        files.listed(tmp_path / "registers", [tmp_path / "receipts"]), world.items, workers=0
    )
    assert len(outside.leaks) == 3  # only at their own place, and only of the corpus itself


def test_an_id_that_another_asset_has_by_now_is_no_leak(gone: Gone, tmp_path: Path) -> None:
    items = [Item("index_id", gone.uid, "id", (7).to_bytes(8, "little"))]
    members = pa.table({"id": pa.array([7], pa.int64()), "uid": ["acme:other"]})
    leaks.put(tmp_path, "shards/index/k/members.parquet", leaks.parquet(members))
    assert judging.judge(files.listed(tmp_path, []), items, workers=0).leaks == []
    leaks.put(tmp_path, "caches/m.parquet", leaks.parquet(members.select(["id"])))
    assert judging.judge(files.listed(tmp_path, []), items, workers=0).leaks == []


def test_a_longer_name_is_another_asset_if_there_is_one(world: World, gone: Gone, tmp_path: Path) -> None:
    leaks.put(tmp_path, "a.txt", f"{gone.uid}5 x{gone.uid} {gone.key}b".encode())
    assert world.judged(tmp_path).leaks == []
    leaks.put(tmp_path, "a.txt", f"{gone.key}-edges.png".encode())
    assert len(world.judged(tmp_path).leaks) >= 1


def test_revocations_that_remove_nothing_are_told_and_not_looked_for(world: World, tmp_path: Path) -> None:
    example = contract.template()["revocation"]
    later = {**example, "revocation_id": "later", "effective_at": "2999-01-01T00:00:00Z", "action": "remove"}
    restrict = {**example, "revocation_id": "less", "action": "restrict", "restrict_uses": ["generation"]}
    path = tmp_path / "r.jsonl"
    path.write_text(json.dumps(later) + "\n" + json.dumps(restrict))
    from datetime import UTC, datetime  # noqa: PLC0415

    found = revocations.read(path, datetime(2026, 7, 1, tzinfo=UTC))
    assert found.targets == ()
    assert found.unjudged == (
        "revocation later is not in force yet",
        "revocation less ends uses and removes nothing",
    )


def test_an_id_that_is_kept_for_nobody_is_no_leak(world: World, gone: Gone, tmp_path: Path) -> None:
    register = pa.table({"uid": ["", "acme:shot-0003"], "id": pa.array([gone.index_id, 3], pa.int64())})
    leaks.put(tmp_path, "registers/ids/abc", leaks.parquet(register))
    verdict = world.judged(tmp_path)
    assert verdict.leaks == []
    assert verdict.artifacts["registers/ids"].uids == ["acme:shot-0003"]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_what_pardalis_revokes_passes(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus = tmp_path / "corpus"
    shutil.copytree(world.before, corpus)
    told = tmp_path / "revocations.jsonl"
    lines = world.revocations.read_text().splitlines()
    told.write_text("\n".join(line for line in lines if "acme-ended" not in line))
    at = ["--revocations", str(told), "--corpus", str(corpus)]
    words = ["verify", *at, "--evidence", str(world.evidence), "--workers", "1"]
    assert run(words) == REFUSED
    assert run(["revoke", *at, "--config", str(world.root / "tiny.toml"), "--engine", "inline"]) == 0
    capsys.readouterr()
    assert run(words) == 0, capsys.readouterr().out
