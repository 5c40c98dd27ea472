"""What is left of a corpus without some assets is what a corpus would be that had never seen them."""

from __future__ import annotations

import functools
import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from infra import s3 as s3_clients
from infra.artifact import find_artifact
from infra.cli import run
from infra.corpus import Corpus, Version
from infra.storage import LocalStore, Store
from infra.telemetry import Log
from pipeline import audit, blocks, contract, erasing, jobs, packs, receipts, refs, refused, rows, tables
from pipeline.config import Config
from pipeline.contract import Revocation
from pipeline.deliveries.writer import write_table
from pipeline.engine import Engine, Inline
from pipeline.examples import KINDS
from pipeline.jobs import Job
from pipeline.records import RECORDS
from pipeline.revoking import collecting, taking
from pipeline.sealing import Seal
from pipeline.searching import members
from pipeline.shards import Block
from pipeline.step import ROWS
from tests.laws.conftest import AS_OF, TINY, Build, Deliveries, Samples, license_, sample
from tests.laws.test_forms import HEADING
from tests.pipeline import agencies

pytestmark = [pytest.mark.plan, pytest.mark.timeout(300)]
GONE = ("a0003", "a0012", "a0020")
NUMBERS = range(28)
CRASHES = 50


def revocation(*targets: str, **changes: Any) -> Revocation:
    template = contract.template()["revocation"]
    named = {"revocation_id": "taken-back", "effective_at": "2026-05-01T00:00:00Z", "target_type": "asset"}
    return Revocation.model_validate(
        {**template, **named, **({"targets": list(targets)} if targets else {}), **changes}
    )


def revoked(
    corpus: Corpus,
    config: Config,
    lines: Iterable[Revocation],
    *,
    packs: str = "blank",
    engine: Engine | None = None,
) -> Version:
    with corpus.writing(purpose="test") as lease:
        work = Job(
            corpus=corpus, lease=lease, config=config, engine=engine or Inline(), log=Log(), seal=Seal()
        )
        taking.taken(work, list(lines), AS_OF, packs=packs)
        return corpus.newest()


def stripped(uri: str, keys: set[str]) -> str:
    """The delivery as it would be if those samples had never been in its tars."""
    store, manifest = Store.at(uri), json.loads(Store.at(uri).read("delivery.json"))
    for file in manifest["files"]:
        if file["path"].endswith(".tar"):
            data = erasing.members_dropped(store.read(file["path"]), keys)
            store.write(file["path"], data)
            file |= {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
            file.pop("samples", None)
    manifest.pop("counts", None)
    store.write("delivery.json", json.dumps(manifest).encode())
    return uri


def pinned(corpus: Corpus, version: Version, fresh: Corpus) -> None:
    """Give a new corpus the fitted models and the id table of another one."""
    for step, key in version.models.items():
        artifact = find_artifact(corpus.store, step, key)
        assert artifact is not None
        names = [f"artifacts/{step}/{key}.json"]
        for shard in artifact.shards.values():
            names += [f"{shard.folder}/shard.json", *map(shard.name, shard.files)]
        for name in names:
            fresh.store.write(name, corpus.store.read(name))
    for name in version.registers["ids"]:
        fresh.store.write(name, corpus.store.read(name))
    with fresh.writing(purpose="test") as lease:
        registers = {"ids": version.registers["ids"]}
        fresh.publish(lease, fresh.head(), Version(number=1, models=version.models, registers=registers))


def files_of(corpus: Corpus, version: Version) -> dict[tuple[str, str, str], str]:
    found = {}
    for step in version.artifacts:
        for slot, shard in corpus.artifact(version, step).shards.items():
            found |= {(step, slot, file): shard.sha256(file) for file in shard.files}
    return found


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    return Corpus(Store.at(tmp_path / "corpus"))


def samples() -> Samples:
    return [sample(number, contributor={"id": f"c{number % 5}"}) for number in NUMBERS]


@pytest.mark.parametrize(
    "named",
    [
        {"targets": list(GONE)},
        {"target_type": "contributor", "targets": ["c3"]},
        {"target_type": "content_sha256", "targets": [sample(5)[0].file.sha256]},
    ],
    ids=["assets", "a contributor", "bytes"],
)
def test_compacting_is_building_without(
    tmp_path: Path, corpus: Corpus, deliveries: Deliveries, built: Build, tiny: Config, named: dict[str, Any]
) -> None:
    uri = deliveries.write(samples())
    fresh = Corpus(Store.at(tmp_path / "fresh"))
    held = uids(corpus, built(corpus, [uri], Inline()))
    version = revoked(corpus, tiny, [revocation(**named)], packs="rebuild")
    gone = held - uids(corpus, version)
    assert len(gone) in (1, 3, 5)
    pinned(corpus, version, fresh)
    left = built(fresh, [stripped(uri, {uid.partition(":")[2] for uid in gone})], Inline())
    one, other = files_of(corpus, version), files_of(fresh, left)
    assert {name: sha for name, sha in one.items() if other.get(name) != sha} == {}
    assert one.keys() == other.keys()


def test_blanked_packs_show_what_a_loader_that_refuses_shows(
    corpus: Corpus, deliveries: Deliveries, built: Build, tiny: Config
) -> None:
    before = built(corpus, [deliveries.write(samples())], Inline())
    named = frozenset(f"acme:{name}" for name in GONE)
    refusing = {kind: shown(packs.listed(corpus, before, kind, revoked=named)) for kind in KINDS}
    assert any(block.is_blanked for some in refusing.values() for block in some)
    version = revoked(corpus, tiny, [revocation(*GONE)])
    for kind, expected in refusing.items():
        for one, other in zip(shown(packs.listed(corpus, version, kind)), expected, strict=True):
            assert one.is_blanked == other.is_blanked
            assert np.array_equal(one.tokens_RT, other.tokens_RT)
            for row in range(len(one.tokens_RT)):
                assert all(map(np.array_equal, one.layout(row), other.layout(row)))
    # A run that began on the version before reads what is left of its packs.
    assert [one.info for one in packs.listed(corpus, corpus.version(before.number), "train")] == [
        one.info for one in packs.listed(corpus, version, "train")
    ]


def shown(listed: Sequence[blocks.Shard]) -> list[Block]:
    opened = blocks.Blocks(listed, keep=99)
    return [opened.block(number) for number in range(len(opened))]


def test_nothing_of_them_is_left_and_the_next_build_makes_packs_alone(
    corpus: Corpus, deliveries: Deliveries, built: Build, tiny: Config
) -> None:
    built(corpus, [uri := deliveries.write(samples())], Inline())
    version = revoked(corpus, tiny, [revocation(*GONE)])
    needles = [name.encode() for name in GONE] + [
        text.encode() for number in (3, 12, 20) for text in (sample(number)[0].file.sha256,)
    ]
    for name in corpus.store.names():
        if not name.startswith(("registers/revocations/", "audit/", "receipts/")):
            data = corpus.store.read(name)
            assert not [needle for needle in needles if needle in data], name
    again = built(corpus, [uri], Inline())
    changed = {step for step, key in again.artifacts.items() if version.artifacts[step] != key}
    assert changed == {"pack"}
    assert revoked(corpus, tiny, [revocation(*GONE)]) == again


def test_what_a_killed_write_left_is_erased_too(
    corpus: Corpus, deliveries: Deliveries, built: Build, tiny: Config
) -> None:
    built(corpus, [deliveries.write(samples())], Inline(), to="filter")
    left = Path(corpus.store.uri, "shards", "images", "k", ".partial-0123456789abcdef")
    left.parent.mkdir(parents=True)
    left.write_bytes(sample(3)[1])
    assert collecting.collect(corpus, corpus.newest(), dry_run=True).files == 1
    assert left.exists()
    assert collecting.collect(corpus, corpus.newest()).files == 1
    assert not left.exists()


def test_of_a_corpus_all_of_which_is_taken_back_nothing_is_left(
    corpus: Corpus, deliveries: Deliveries, built: Build, tiny: Config
) -> None:
    built(corpus, [deliveries.write(samples())], Inline())
    every = [f"c{number}" for number in range(5)]
    version = revoked(corpus, tiny, [revocation(target_type="contributor", targets=every)])
    assert uids(corpus, version) | cited(corpus, version) | uids_of_index(corpus, version) <= {""}
    for name in corpus.store.names():
        if not name.startswith(("registers/revocations/", "audit/", "receipts/")):
            assert b"acme:a00" not in corpus.store.read(name), name


def test_of_a_bucket_that_keeps_versions_none_is_left(
    versioned: Store, deliveries: Deliveries, built: Build, tiny: Config
) -> None:
    corpus = Corpus(versioned)
    built(corpus, [deliveries.write(samples())], Inline())
    revoked(corpus, tiny, [revocation(target_type="contributor", targets=["c3"])])
    assert (
        versioned.hidden("artifacts/") == versioned.hidden("shards/") == versioned.hidden("deliveries/") == {}
    )
    client, bucket = s3_clients.client(), versioned.uri.split("/")[2]
    for page in client.get_paginator("list_object_versions").paginate(Bucket=bucket):
        for one in page["Versions"]:
            if not any(part in one["Key"] for part in ("/registers/revocations/", "/audit/", "/receipts/")):
                told = {"Bucket": bucket, "Key": one["Key"], "VersionId": one["VersionId"]}
                data = client.get_object(**told)["Body"].read()
                assert b"a0003" not in data, one["Key"]
                assert b"acme:c3" not in data, one["Key"]


def uids(corpus: Corpus, version: Version) -> set[str]:
    shards = corpus.artifact(version, "records").shards
    tables_ = (tables.read_parquet(refs.of(corpus.store, one, RECORDS)) for one in shards.values())
    return {uid for table in tables_ for uid in table["uid"].to_pylist()}


class Crash(BaseException):
    """As a process dies: nothing catches it."""


@dataclass(frozen=True, slots=True)
class Dying(LocalStore):
    """A store whose process dies at one of its writes, before or after that."""

    left: list[int] = field(default_factory=list, compare=False)

    def _act(self, act: Callable[[], Any]) -> Any:
        self.left[0] -= 1
        if self.left[0] == 0:
            raise Crash
        done = act()
        if self.left[0] == -1:
            raise Crash
        return done

    def write(self, name: str, data: bytes) -> None:
        if name.startswith("leases/"):  # a dead process holds none: this one is alive
            LocalStore.write(self, name, data)
        else:
            self._act(lambda: LocalStore.write(self, name, data))

    def create(self, name: str, data: bytes) -> bool:
        return bool(self._act(lambda: LocalStore.create(self, name, data)))

    def delete(self, names: Sequence[str]) -> None:
        for name in names:
            self._act(functools.partial(LocalStore.delete, self, [name]))


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_crash_anywhere_is_completed_by_the_next_run_and_serves_nothing(
    tmp_path: Path, corpus: Corpus, deliveries: Deliveries, built: Build, tiny: Config
) -> None:
    built(corpus, [deliveries.write(samples())], Inline())
    root = Path(corpus.store.uri.removeprefix("file://"))
    done = tmp_path / "done"
    shutil.copytree(root, done)
    counting = Dying(str(done), [1 << 30])
    revoked(Corpus(counting), tiny, [revocation(*GONE)])
    writes = (1 << 30) - counting.left[0]
    expected = standing(Corpus(Store.at(done)))
    rng = np.random.default_rng(0)
    for number, point in enumerate(sorted(rng.choice(np.arange(1, writes), CRASHES, replace=False).tolist())):
        place = tmp_path / f"crash-{number}"
        shutil.copytree(root, place)
        with pytest.raises(Crash):
            revoked(Corpus(Dying(str(place), [point])), tiny, [revocation(*GONE)])
        left = Corpus(Store.at(place))
        head = left.newest()
        if head.registers.get("revocations"):
            served = {uid for uid in uids_of_index(left, head) if uid.partition(":")[2] in GONE}
            assert served <= refused.uids(left, head)
        revoked(left, tiny, [revocation(*GONE)])
        assert standing(left) == expected, point
        # Told once each, whenever it died.
        told = Counter(entry.type for entry in audit.entries(left.store))
        assert (told["revocation_loaded"], told["compaction_done"]) == (1, 1), point
        (receipt,) = receipts.read(left.store)
        assert receipt.receipt.revocation_ids == ("taken-back",)
        shutil.rmtree(place)


def standing(corpus: Corpus) -> tuple[dict[tuple[str, str, str], str], list[str]]:
    """What the newest version lists, and all that lies there beside leases."""
    apart = ("leases/", "versions/", "audit/")
    names = [name for name in corpus.store.names() if not name.startswith(apart)]
    return files_of(corpus, corpus.newest()), names


def uids_of_index(corpus: Corpus, version: Version) -> set[str]:
    return set(members.read(corpus, version)["uid"].to_pylist())


def test_packs_of_decisions_that_changed_since_show_nothing_that_is_refused_by_now(
    corpus: Corpus, deliveries: Deliveries, built: Build, tiny: Config
) -> None:
    built(corpus, [deliveries.write(samples())], Inline())
    adult = deliveries.write([sample(5, asset_revision=1, is_adult=True)], kind="correction")
    ingested(corpus, tiny, [adult])
    assert "pack" not in corpus.newest().artifacts
    version = revoked(corpus, tiny, [revocation("a0012")])
    assert "pack" in version.artifacts
    assert {"acme:a0005", "acme:a0012"}.isdisjoint(told := cited(corpus, version))
    assert len(told) > 10


def ingested(corpus: Corpus, config: Config, uris: list[str]) -> None:
    with corpus.writing(purpose="test") as lease:
        work = Job(corpus=corpus, lease=lease, config=config, engine=Inline(), log=Log(), seal=Seal())
        jobs.ingest_all(work, uris, AS_OF.isoformat())


def cited(corpus: Corpus, version: Version) -> set[str]:
    """Whom the packs name."""
    found = set()
    for kind in KINDS:
        for block in shown(packs.listed(corpus, version, kind)):
            found |= {span["uid"] for row in block.record.column(3).to_pylist() for span in row}
    return found


def test_what_a_record_says_is_revoked_goes_and_does_not_come_back(
    corpus: Corpus, deliveries: Deliveries, built: Build, tiny: Config
) -> None:
    built(corpus, [deliveries.write(samples())], Inline())
    at = {"status": "revoked", "revoked_at": "2026-05-01T00:00:00Z"}
    ingested(corpus, tiny, [deliveries.write([sample(5, asset_revision=1, **at)], kind="correction")])
    version = revoked(corpus, tiny, [])
    assert "acme:a0005" not in uids(corpus, version) | cited(corpus, version)
    again = [sample(5, asset_revision=2), sample(40)]
    ingested(corpus, tiny, [deliveries.write(again)])
    assert ("acme:a0005" in kept(corpus), "acme:a0040" in kept(corpus)) == (False, True)


def kept(corpus: Corpus) -> set[str]:
    shards = corpus.artifact(corpus.newest(), "images").shards.values()
    tables_ = [rows.kept(refs.of(corpus.store, one, ROWS)) for one in shards]
    return {uid for table in tables_ for uid in table["uid"].to_pylist()}


def test_a_licence_that_was_revoked_takes_its_assets_along_whatever_holds_after_its_term(
    corpus: Corpus, deliveries: Deliveries, built: Build, tiny: Config
) -> None:
    ended = license_(license_id="ended", revoked_at="2026-05-01T00:00:00Z", after_term="perpetual")
    mine = [sample(number, license_ids=["ended"]) for number in (3, 4)]
    uri = deliveries.write([*mine, sample(6)], {"": license_(), "ended": ended})
    built(corpus, [uri], Inline(), to="filter")
    assert uids(corpus, revoked(corpus, tiny, [])) == {"acme:a0006"}


FORMS: dict[str, Callable[[Store], object]] = {
    "folder": lambda store: agencies.folder().write(store),
    "manifest": lambda store: write_table(
        store, HEADING, licenses=[license_()], samples=samples()[:5], name="assets.parquet"
    ),
    "shutterstock_dataset": lambda store: agencies.BY_HAND["shutterstock_dataset"]().write(store),
}


@pytest.mark.parametrize("form", FORMS)
def test_what_a_table_or_a_folder_brought_goes_by_the_command_and_stays_gone(
    tmp_path: Path, form: str
) -> None:
    config, corpus = tmp_path / "tiny.toml", Corpus(Store.at(tmp_path / "corpus"))
    config.write_text(TINY)
    uri = str(tmp_path / "delivery")
    FORMS[form](Store.at(uri))
    told = ["--corpus", corpus.store.uri, "--config", str(config), "--engine", "inline"]
    told += ["--as-of", AS_OF.isoformat()]
    assert run(["ingest", uri, *told]) == 0
    before = corpus.newest()
    held = sorted(uids(corpus, before))
    gone = held[1]
    provider, _, name = gone.partition(":")
    lines = tmp_path / "revocations.jsonl"
    lines.write_text(revocation(name, provider=provider).model_dump_json(by_alias=True) + "\n")
    assert run(["revoke", "--revocations", str(lines), *told]) == 0
    assert sorted(uids(corpus, corpus.newest())) == [uid for uid in held if uid != gone]
    for file in corpus.store.names():
        if not file.startswith(("registers/revocations/", "audit/", "receipts/")):
            data = corpus.store.read(file)
            for needle in (gone, f'"{name}"', f"/{name}.", f'"{name}.'):
                assert needle.encode() not in data, (file, needle)
    # The same delivery, read again from where it lies: not a row of it comes back.
    left = files_of(corpus, corpus.newest())
    for step in ("records", "decide", "images"):
        shutil.rmtree(tmp_path / "corpus" / "shards" / step)
        shutil.rmtree(tmp_path / "corpus" / "artifacts" / step)
    assert run(["ingest", *told]) == 0
    assert files_of(corpus, corpus.newest()) == left


def test_a_dry_run_says_what_would_be_touched_and_writes_nothing(
    corpus: Corpus, deliveries: Deliveries, built: Build, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    built(corpus, [deliveries.write(samples())], Inline())
    config, lines = tmp_path / "tiny.toml", tmp_path / "revocations.jsonl"
    config.write_text(TINY)
    lines.write_text(revocation(*GONE).model_dump_json(by_alias=True) + "\n")
    before = corpus.store.stamps()
    capsys.readouterr()
    told = ["--revocations", str(lines), "--corpus", corpus.store.uri, "--config", str(config)]
    told += ["--as-of", AS_OF.isoformat(), "--engine", "inline", "--json"]
    assert run(["revoke", "--dry-run", *told]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["uids"] == [f"acme:{name}" for name in GONE]
    assert corpus.store.stamps() == before
    assert facts["bytes"] == sum(one["bytes"] for one in facts["steps"].values())
    # What is touched is what is then written, but for lists that only one of the two searches reached.
    assert run(["revoke", *told]) == 0
    written = json.loads(capsys.readouterr().out)["shards_written"]
    said = {step: one["shards"] for step, one in facts["steps"].items()}
    assert said.keys() >= written.keys() - {"lists"}
    assert {step: num for step, num in said.items() if step in written and step != "neighbors"} == {
        step: num for step, num in written.items() if step in said and step != "neighbors"
    }
    assert said["neighbors"] <= written["neighbors"]
