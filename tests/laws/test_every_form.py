"""`pardalis ingest` on every form, from a disk and from an S3 server: the same rows, the same decisions."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest

from infra.cli import run
from infra.corpus import Corpus
from infra.storage import Store
from pipeline import tables
from pipeline.contract import Form
from pipeline.deliveries import emoji, openclipart
from pipeline.deliveries.writer import write_delivery, write_table
from pipeline.refs import of
from pipeline.step import ROWS
from tests.pipeline import agencies, downloaded, test_deliveries_emoji, test_deliveries_openclipart

from .conftest import AS_OF, TINY, license_, sample
from .test_forms import HEADING
from .worlds import Addressed, at_addresses

pytestmark = pytest.mark.plan
Write = Callable[[Store, Path], object]
SAMPLES = [sample(number, is_adult=number == 3) for number in range(5)]


def by_hand(make: Callable[[], agencies.Parcel]) -> Write:
    return lambda store, _: make().write(store)


def at_s3(store: Store, _: Path) -> None:
    """A table of objects that lie beside the delivery, on the server; on a disk there are none."""
    for asset, image in SAMPLES:
        Store.at("s3://corpora/originals").write(f"{asset.asset_id}.png", image)
    there = "s3://corpora/originals"
    cases = [
        Addressed(asset=asset, image=image, uri=f"{there}/{asset.asset_id}.png") for asset, image in SAMPLES
    ]
    at_addresses(store, cases, buckets=("corpora",))


WRITERS: dict[str, Write] = {
    **{form: by_hand(make) for form, make in agencies.BY_HAND.items()},
    "folder": by_hand(agencies.folder),
    "img2dataset": lambda store, at: downloaded.img2dataset(at).write(store),
    "webdataset": lambda store, _: write_delivery(
        store, HEADING, licenses=[license_()], samples=SAMPLES, shard_samples=2
    ),
    "manifest": lambda store, _: write_table(
        store, HEADING, licenses=[license_()], samples=SAMPLES, name="assets.parquet"
    ),
    "addresses": at_s3,
    "emoji": lambda store, _: emoji.deliver(store, test_deliveries_emoji.entries()),
    "openclipart": lambda store, at: openclipart.deliver(store, test_deliveries_openclipart.some(at)),
}


def ingested(uri: str, corpus: Store, config: Path) -> list[dict[str, Any]]:
    """The catalog's rows, without the folder that their messages name."""
    tokens = ["ingest", uri, "--corpus", corpus.uri, "--config", str(config), "--engine", "inline"]
    assert run([*tokens, "--as-of", AS_OF.isoformat()]) == 0
    found = Corpus(corpus)
    shards = found.artifact(found.newest(), "images").shards
    rows = itertools.chain(
        *(tables.read_parquet(of(corpus, shard, ROWS)).to_pylist() for _, shard in sorted(shards.items()))
    )
    return [json.loads(json.dumps(row, default=repr).replace(uri, "DELIVERY")) for row in rows]


@pytest.mark.parametrize("form", WRITERS)
def test_a_delivery_gets_the_same_rows_and_decisions_from_a_disk_and_from_s3(
    s3: Store, tmp_path: Path, form: str
) -> None:
    config = tmp_path / "tiny.toml"
    config.write_text(TINY + '\n[pipeline.fetch]\nbuckets = ["corpora"]\n')
    disk, there = Store.at(tmp_path / "disk"), Store.at(f"{s3.uri}/delivery")
    WRITERS[form](disk, tmp_path / "made")
    for name in disk.names():
        there.write(name, disk.read(name))
    here = ingested(disk.uri, Store.at(tmp_path / "corpus"), config)
    assert here == ingested(there.uri, Store.at(f"{s3.uri}/corpus"), config)
    assert "kept" in {row["outcome"] for row in here}
    assert len({row["uid"] for row in here}) == len(here)


def test_every_form_of_the_contract_is_tried() -> None:
    assert set(get_args(Form)) <= set(WRITERS)
