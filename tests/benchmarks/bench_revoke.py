"""Taking assets back from 100,000, beside making everything from embeddings to packs again.

The surprising rule: the peer is our own build, at its cheapest: of stored pictures, with nothing of the steps
before. What its encoders cost is measured on real pictures and counted for all; the rest of it is what
building this corpus took. Pictures, features and tokens are drawn by lot; registers, decisions, catalogs,
index, neighbors, packs, and every way of erasing are real.

``make bench NAME=revoke`` builds the corpus in PARDALIS_BENCH once: 20 minutes of one core, 3 GB.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from infra.artifact import fingerprint
from infra.corpus import Corpus, Version
from infra.storage import LocalStore, Store
from infra.telemetry import Log
from pipeline import config as configs
from pipeline import contract, embed, erasing, reading, refs, schema, shards, tables
from pipeline.contract import Revocation
from pipeline.examples import KINDS
from pipeline.jobs import Job
from pipeline.neighbors import NEIGHBORS
from pipeline.packs import slots
from pipeline.revoking import taking
from pipeline.sealing import Seal
from pipeline.searching import members
from tests.benchmarks import drawn_corpus, photographs
from tests.benchmarks.drawn_corpus import AS_OF, Drawing
from tokenizer_service import images, sizes

NUM = int(os.environ.get("PARDALIS_REVOKE_ASSETS", "100000"))
SHARES = (0.0001, 0.001, 0.01)
SETTINGS = """
[pipeline.duplicates]
[pipeline.examples]
targets_per_group = 4096
[pipeline.examples.rows]
context = 1120
shard_bytes = 1000000
block_rows = 64
[tokenizer.text]
entries = 512
[tokenizer.image]
side = 128
[retrieval.encoder]
kind = "open_clip"
[retrieval.index]
kind = "ivf_flat"
"""
AGAIN = ("embed", "lists", "codes", "probes", "index", "queries", "neighbors", "pack")
"""Steps that would be made again; features, too, are counted by what they cost a picture."""
TIMED = 192
"""Pictures on which an encoder is timed."""
ASKED = 20


@dataclass(frozen=True, slots=True)
class Counting(LocalStore):
    """Bytes that are written."""

    written: list[int] = field(default_factory=lambda: [0], compare=False)

    def write(self, name: str, data: bytes) -> None:
        self.written[0] += len(data)
        LocalStore.write(self, name, data)

    def create(self, name: str, data: bytes) -> bool:
        self.written[0] += len(data)
        return LocalStore.create(self, name, data)


def run() -> dict[str, Any]:
    place = photographs.folder() / f"revoke-{NUM}"
    facts = built(place)
    base = Corpus(Store.at(place / "corpus"))
    version = base.newest()
    pictures = encoder_seconds()
    peer = {
        # Features of the whole document, and queries of what dropout leaves of it.
        "cpu_s": sum(facts["cpu_s"][step] for step in AGAIN) + 2 * pictures * NUM,
        "of_encoders_s": 2 * pictures * NUM,
        "bytes": sum(facts["bytes"][step] for step in (*AGAIN, "features")),
    }
    nums = {f"{share:.2%}": max(1, round(share * NUM)) for share in SHARES}
    chosen = {name: some(version, base, num, hubby=False) for name, num in nums.items()}
    chosen["0.01% most cited"] = some(version, base, nums["0.01%"], hubby=True)
    found = {name: revoked(place, uids) for name, uids in chosen.items()}
    for one in found.values():
        one["times_cheaper_cpu"] = round(peer["cpu_s"] / one["cpu_s"], 1)
        one["times_fewer_bytes"] = round(peer["bytes"] / one["bytes"], 1)
    least = found["0.01%"]
    return {
        "unit": "CPU seconds to take back 0.01 % of 100,000 assets, gc included",
        "ours": least["cpu_s"],
        "peer": round(peer["cpu_s"], 1),
        "peer_name": "embeddings to packs made again of the stored pictures",
        "ratio": least["times_cheaper_cpu"],
        "details": {
            "asked": ASKED,
            "assets": NUM,
            "again": {name: round(value, 1) for name, value in peer.items()},
            "taken_back": found,
            "rewriting_mb_per_cpu_s": rewriting(base, version),
        },
    }


def config() -> configs.Config:
    told = reading.told(reading.parsed(SETTINGS, "bench_revoke"), "bench_revoke")
    return configs.of(told)


def built(place: Path) -> dict[str, Any]:
    """The corpus, once; what each step took of CPU, and wrote."""
    facts = place / "facts.json"
    if not facts.exists():
        shutil.rmtree(place, ignore_errors=True)
        store = Counting(str(place / "corpus"))
        uri = drawn_corpus.delivered(Store.at(place / "delivery"), NUM)
        cpu: dict[str, float] = {}
        size: dict[str, int] = {}
        last = [time.process_time(), 0.0]

        def told(step: str, _version: Version) -> None:
            now = time.process_time()
            cpu[step], size[step] = now - last[0], store.written[0] - int(last[1])
            last[:] = [now, float(store.written[0])]

        drawn_corpus.built(Corpus(store), uri, config(), Drawing(), told)
        facts.write_text(json.dumps({"cpu_s": cpu, "bytes": size}))
    found: dict[str, Any] = json.loads(facts.read_text())
    return found


def encoder_seconds() -> float:
    """CPU that the offline encoder takes for a picture and its caption."""
    encoder = embed.load_encoder(embed.EncoderConfig())
    pictures = [
        sizes.fit_square(images.decode(Path(path).read_bytes()), 224) for path in photographs.files(TIMED)
    ]
    texts = [drawn_corpus.caption(number) for number in range(TIMED)]
    embed.encoded(encoder, pictures[:8], texts[:8], side=224)
    began = time.process_time()
    for at in range(0, TIMED, 64):
        embed.encoded(encoder, pictures[at : at + 64], texts[at : at + 64], side=224)
    return (time.process_time() - began) / TIMED


def some(version: Version, corpus: Corpus, num: int, *, hubby: bool) -> list[str]:
    """Members, by lot or those that most targets cite."""
    every = members.read(corpus, version)[schema.UID.name].to_pylist()
    if not hubby:
        return sorted(drawn_corpus.rng("gone").permutation(every)[:num].tolist())
    cited: Counter[str] = Counter()
    for shard in corpus.artifact(version, "neighbors").shards.values():
        table = tables.read_parquet(refs.of(corpus.store, shard, NEIGHBORS), [schema.CANDIDATES])
        flat = table[schema.CANDIDATES.name].combine_chunks().flatten()
        cited.update(flat.field("uid").to_pylist())
    return [uid for uid, _ in cited.most_common(num)]


def revoked(place: Path, uids: Sequence[str]) -> dict[str, Any]:
    """What taking them back costs, of a copy that shares the files that stay."""
    copy = place / "copy"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(place / "corpus", copy, copy_function=os.link)
    store = Counting(str(copy))
    corpus = Corpus(store)
    template = contract.template()["revocation"]
    record = Revocation.model_validate(
        {
            **template,
            "provider": drawn_corpus.PROVIDER,
            "revocation_id": fingerprint(list(uids)),
            "effective_at": "2026-05-01T00:00:00Z",
            "target_type": "asset",
            "targets": [uid.partition(":")[2] for uid in uids],
        }
    )
    began, wall = time.process_time(), time.perf_counter()
    with corpus.writing(purpose="benchmark") as lease:
        work = Job(corpus=corpus, lease=lease, config=config(), engine=Drawing(), log=Log(), seal=Seal())
        told, changed = taking.taken(work, [record], AS_OF, packs="blank")
    facts = {
        "assets": len(uids),
        "cpu_s": round(time.process_time() - began, 1),
        "wall_s": round(time.perf_counter() - wall, 1),
        "bytes": store.written[0],
        "shards_written": dict(Counter(one.step for one in changed)),
        "erased_mb": round(told["erased_bytes"] / 1e6, 1),
    }
    shutil.rmtree(copy)
    return facts


def rewriting(corpus: Corpus, version: Version) -> dict[str, float]:
    """MB of a shard's file a second of one core: a tar and a catalog without one asset, a pack blanked."""
    store, found = corpus.store, {}
    for name, step, file in (
        ("tar", "images", "images.tar"),
        ("catalog", "split", "rows.parquet"),
        ("tokens", "tokenize", "tokens.arrow"),
    ):
        slot, shard = next(iter(sorted(corpus.artifact(version, step).shards.items())))
        data = store.read(shard.name(file))
        gone = {drawn_corpus.uid(int(slot.partition("-")[2]) * drawn_corpus.SHARD + 7)}
        found[name] = speed(
            len(data), lambda data=data, file=file, gone=gone: erasing.without(file, data, gone)
        )
    shard = slots(corpus, version, KINDS[0])[0]
    name, info = next(iter(sorted(shard.facts["packs"].items())))
    data = store.read(shard.name(name))
    first = shards.blocks_of(data, info)[0].record.column(3).to_pylist()[0][-1]["uid"]
    found["pack"] = speed(len(data), lambda: shards.rewritten(data, info, {first}))
    return found


def speed(size: int, act: Any) -> float:
    act()
    times = []
    for _ in range(5):
        began = time.process_time()
        act()
        times.append(time.process_time() - began)
    return round(size / 1e6 / float(np.median(times)), 1)
