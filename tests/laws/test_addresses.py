"""Laws of images at addresses: they end as if they had been delivered, and every row has an outcome."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import shutil
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from infra import cluster
from infra import s3 as s3_clients
from infra.cli import run
from infra.corpus import Corpus, Version
from infra.guarded.https import INTERNET, Network
from infra.guarded.refused import Refused
from infra.storage import Store
from infra.telemetry import Bar, Log
from pipeline import build, checking, folding, plan
from pipeline.config import Config
from pipeline.deliveries.writer import write_folder
from pipeline.engine import Done, Engine, Inline
from pipeline.pool import OnRay
from pipeline.step import ROWS, Step, Task
from tests.infra.tls_server import HOST, PUBLIC, Site, body, serving

from .conftest import AS_OF, TINY, license_, sample
from .test_build import contents
from .test_forms import HEADING, coded, rows
from .test_revocation import revocation, revoked
from .worlds import Addressed, at_addresses

pytestmark = pytest.mark.plan
SECRET = "token-that-nobody-may-see"  # noqa: S105  # planted, and looked for


@pytest.fixture(scope="module")
def served() -> Iterator[Site]:
    with serving() as site:
        yield site


@pytest.fixture
def site(served: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Site:
    served.trust(monkeypatch, tmp_path)
    monkeypatch.setenv("NO_ALBUMENTATIONS_UPDATE", "1")
    served.asked.clear()
    served.routes = {}
    return served


@dataclass(frozen=True, slots=True)
class World:
    """A corpus that may follow addresses on one host."""

    corpus: Corpus
    config: Config

    def ingest(self, uris: list[str], network: Network, engine: Engine | None = None) -> Version:
        with self.corpus.writing(purpose="test") as lease:
            head = self.corpus.head()
            version = replace(folding.fold(self.corpus, head, uris), as_of=AS_OF.isoformat())
            steps = plan.ingest_steps(self.config, AS_OF, network)
            version = build.run(self.corpus, version, steps, engine or Inline(), Log())
            return self.corpus.publish(lease, head, version)

    def told(self, version: Version) -> dict[str, tuple[str, str]]:
        """(outcome, code of the reason) by asset."""
        found = rows(self.corpus, version, "images", ROWS)
        return {row["uid"]: (row["outcome"], "".join(row["reasons"][:1]).partition(":")[0]) for row in found}


@pytest.fixture
def world(tmp_path: Path, tiny: Config) -> World:
    return World(Corpus(Store.at(tmp_path / "corpus")), allowing(tiny, hosts=(HOST,)))


def allowing(config: Config, **places: Any) -> Config:
    fetch = config.pipeline.fetch.model_copy(update=places)
    return config.model_copy(update={"pipeline": config.pipeline.model_copy(update={"fetch": fetch})})


def on_host(number: int) -> Addressed:
    asset, image = sample(number)
    return Addressed(asset=asset, image=image, uri=f"https://{HOST}/{asset.asset_id}.png?Signature={SECRET}")


def test_assets_at_addresses_end_as_if_they_had_been_delivered(
    tmp_path: Path, site: Site, world: World
) -> None:
    assets = [on_host(number) for number in range(40)]
    site.routes = {f"/{one.asset.asset_id}.png": body(one.image) for one in assets}
    there = at_addresses(Store.at(tmp_path / "there"), assets, hosts=(HOST,))
    here = Store.at(tmp_path / "here")
    write_folder(here, HEADING, licenses=[license_()], samples=[sample(number) for number in range(40)])
    other = World(Corpus(Store.at(tmp_path / "other")), world.config)
    versions = world.ingest([there], site.network()), other.ingest([here.uri], site.network())
    left, right = (
        [coded(row) for row in rows(one.corpus, version, "images", ROWS)]
        for one, version in zip((world, other), versions, strict=True)
    )
    assert left == right
    assert {row["outcome"] for row in left} == {"kept"}
    assert len(world.corpus.artifact(versions[0], "fetch").shards) == 2


def test_every_row_has_an_outcome_and_a_refusal_stands(tmp_path: Path, site: Site, world: World) -> None:
    good, gone, other, changed, unsigned, private = (on_host(number) for number in range(6))
    site.routes = {
        f"/{good.asset.asset_id}.png": body(good.image),
        f"/{gone.asset.asset_id}.png": body(b"", status=404),
        f"/{changed.asset.asset_id}.png": body(changed.image + b"\0"),
    }
    cases = [
        good,
        gone,
        dataclasses.replace(other, uri="https://elsewhere.example/x.png"),
        changed,
        dataclasses.replace(unsigned, sha256=""),
        dataclasses.replace(private, uri="http://127.0.0.1/x.png"),
    ]
    uri = at_addresses(Store.at(tmp_path / "d"), cases, hosts=(HOST,))
    first = world.ingest([uri], site.network())
    assert world.told(first) == {
        good.asset.uid: ("kept", ""),
        gone.asset.uid: ("quarantined", "status"),
        other.asset.uid: ("quarantined", "host"),
        changed.asset.uid: ("quarantined", "sha256_mismatch"),
        unsigned.asset.uid: ("quarantined", "no_sha256"),
        private.asset.uid: ("quarantined", "scheme"),
    }
    asked = len(site.asked)
    assert world.ingest([], site.network()) == first
    assert len(site.asked) == asked


def test_what_could_not_be_reached_is_tried_again_and_nothing_else(
    tmp_path: Path, site: Site, world: World
) -> None:
    assets = [on_host(number) for number in range(3)]
    site.routes = {f"/{one.asset.asset_id}.png": body(one.image) for one in assets[:2]}
    down = f"/{assets[2].asset.asset_id}.png"
    site.routes[down] = body(b"", status=503)
    uri = at_addresses(Store.at(tmp_path / "d"), assets, hosts=(HOST,))
    patient = World(world.corpus, world.config)
    first = patient.ingest([uri], site.network())
    assert patient.told(first)[assets[2].asset.uid] == ("failed", "unreachable")
    before = contents(world.corpus.store, "shards/fetch/")
    site.asked.clear()
    site.routes[down] = body(assets[2].image)
    # Only the delivery knows the signature: without it nothing is asked, wherever it went.
    moved = Path(uri).rename(tmp_path / "moved")
    assert patient.ingest([], site.network()) == first
    assert not site.asked
    second = patient.ingest([str(moved)], site.network())
    assert {outcome for outcome, _ in patient.told(second).values()} == {"kept"}
    assert [path for path, _ in site.asked] == [f"{down}?Signature={SECRET}"]
    after = contents(world.corpus.store, "shards/fetch/")
    assert {name: after[name] for name in before} == before
    shutil.rmtree(moved)
    assert patient.ingest([], site.network()) == second
    assert len(site.asked) == 1


def test_a_delivery_may_be_put_where_the_one_before_it_lay(tmp_path: Path, site: Site, world: World) -> None:
    """What that one could not bring is not asked for any more: nobody knows its signature."""
    gone, new = on_host(0), on_host(1)
    site.routes[f"/{gone.asset.asset_id}.png"] = body(b"", status=503)
    site.routes[f"/{new.asset.asset_id}.png"] = body(new.image)
    folder = tmp_path / "d"
    world.ingest([at_addresses(Store.at(folder), [gone], hosts=(HOST,))], site.network())
    shutil.rmtree(folder)
    uri = at_addresses(Store.at(folder), [new, on_host(2)], hosts=(HOST,), sequence=1)
    version = world.ingest([uri], site.network())
    told = world.told(version)
    assert (told[gone.asset.uid], told[new.asset.uid]) == (("failed", "unreachable"), ("kept", ""))
    assert world.told(world.ingest([], site.network())) == told


def test_a_delivery_that_was_never_asked_for_must_lie_there(
    tmp_path: Path, site: Site, world: World, tiny: Config
) -> None:
    one = on_host(0)
    folder = tmp_path / "d"
    uri = at_addresses(Store.at(folder), [one], hosts=(HOST,))
    with world.corpus.writing(purpose="test") as lease:
        head = world.corpus.head()
        folded = replace(folding.fold(world.corpus, head, [uri]), as_of=AS_OF.isoformat())
        world.corpus.publish(lease, head, folded)
    shutil.rmtree(folder)
    at_addresses(Store.at(folder), [on_host(1), on_host(2)], hosts=(HOST,))
    with pytest.raises(Refused):
        world.ingest([], site.network())


def test_a_host_that_stays_away_is_tried_once_an_ingest_however_often(
    tmp_path: Path, site: Site, world: World
) -> None:
    one = on_host(0)
    site.routes = {f"/{one.asset.asset_id}.png": body(b"", status=503)}
    uri = at_addresses(Store.at(tmp_path / "d"), [one], hosts=(HOST,))
    for number in range(4):
        version = world.ingest([] if number else [uri], site.network())
        assert world.told(version) == {one.asset.uid: ("failed", "unreachable")}
        assert len(world.corpus.artifact(version, "fetch").shards) == number + 1


def test_what_settings_kept_out_comes_when_they_allow_it_and_nothing_is_fetched_twice(
    tmp_path: Path, site: Site, tiny: Config
) -> None:
    near, far = on_host(0), dataclasses.replace(on_host(1), uri="https://other.example/far.png")
    site.routes = {f"/{near.asset.asset_id}.png": body(near.image), "/far.png": body(far.image)}
    hosts = (HOST, "other.example")
    uri = at_addresses(Store.at(tmp_path / "d"), [near, far], hosts=hosts)
    corpus = Corpus(Store.at(tmp_path / "corpus"))
    world = World(corpus, allowing(tiny, hosts=(HOST,)))
    first = world.ingest([uri], site.network())
    assert world.told(first)[far.asset.uid] == ("quarantined", "host")
    site.routes = {}
    wider = World(corpus, allowing(tiny, hosts=hosts))
    second = wider.ingest([], site.network())
    # The second host's certificate is the first one's: it was dialled now, and not believed.
    assert wider.told(second) == {near.asset.uid: ("kept", ""), far.asset.uid: ("failed", "unreachable")}
    assert [path.partition("?")[0] for path, _ in site.asked] == [f"/{near.asset.asset_id}.png"]


def test_what_was_brought_stays_when_settings_allow_less(
    tmp_path: Path, site: Site, world: World, tiny: Config
) -> None:
    one = on_host(0)
    site.routes = {f"/{one.asset.asset_id}.png": body(one.image)}
    uri = at_addresses(Store.at(tmp_path / "d"), [one], hosts=(HOST,))
    closed = World(world.corpus, allowing(tiny, hosts=()))
    for now, outcome in [(closed, "quarantined"), (world, "kept"), (closed, "kept"), (world, "kept")]:
        version = now.ingest([uri], site.network())
        assert [told for told, _ in now.told(version).values()] == [outcome]
    assert len(site.asked) == 1
    assert len(world.corpus.artifact(version, "fetch").shards) == 2


def test_a_row_that_is_signed_anew_is_asked_for_again(tmp_path: Path, site: Site, world: World) -> None:
    one = on_host(0)
    site.routes = {f"/{one.asset.asset_id}.png": body(b"", status=403)}
    for number, outcome in enumerate((("quarantined", "status"), ("kept", ""))):
        signed = dataclasses.replace(one, uri=f"{one.uri}-{number}")
        store = Store.at(tmp_path / f"d{number}")
        uri = at_addresses(store, [signed], hosts=(HOST,), sequence=number)
        told = rows(world.corpus, world.ingest([uri], site.network()), "images", ROWS)
        assert (told[-1]["outcome"], "".join(told[-1]["reasons"]).partition(":")[0]) == outcome
        site.routes = {f"/{one.asset.asset_id}.png": body(one.image)}
    assert [path.rpartition("-")[2] for path, _ in site.asked] == ["0", "1"]


def test_an_answer_without_a_byte_is_a_fault_and_no_image_that_nobody_saw(
    tmp_path: Path, site: Site, world: World
) -> None:
    one = dataclasses.replace(on_host(0), sha256=hashlib.sha256(b"").hexdigest(), facts=())
    site.routes = {f"/{one.asset.asset_id}.png": body(b"")}
    uri = at_addresses(Store.at(tmp_path / "d"), [one], hosts=(HOST,))
    assert world.told(world.ingest([uri], site.network())) == {one.asset.uid: ("quarantined", "no_image")}


class Stopping(Inline):
    """Ends after its first shard, as a process does that is killed."""

    __slots__ = ()

    def run(self, step: Step, tasks: Sequence[Task], store: Store, bar: Bar) -> Iterator[Done]:
        for done in super().run(step, tasks, store, bar):
            yield done
            raise KeyboardInterrupt


def test_what_came_before_an_ingest_was_cut_short_is_not_fetched_again(
    tmp_path: Path, site: Site, world: World
) -> None:
    assets = [on_host(number) for number in range(40)]
    site.routes = {f"/{one.asset.asset_id}.png": body(one.image) for one in assets}
    uri = at_addresses(Store.at(tmp_path / "d"), assets, hosts=(HOST,))
    with pytest.raises(KeyboardInterrupt):
        world.ingest([uri], site.network(), Stopping())
    assert len(site.asked) == 32
    told = world.told(world.ingest([uri], site.network()))
    assert {outcome for outcome, _ in told.values()} == {"kept"}
    assert len(site.asked) == len({path for path, _ in site.asked}) == 40


def test_what_was_fetched_is_taken_back_with_its_row_and_nothing_is_fetched_again(
    tmp_path: Path, site: Site, world: World
) -> None:
    """One that came by the second try, one that came by the first, one that never came."""
    assets = [on_host(number) for number in range(40)]
    late, early, never, waiting = (assets[number] for number in (3, 5, 7, 9))
    path = {one.asset.uid: f"/{one.asset.asset_id}.png" for one in assets}
    up = {path[one.asset.uid]: body(one.image) for one in assets}
    down = {path[one.asset.uid]: body(b"", status=503) for one in (late, never, waiting)}
    uri = at_addresses(Store.at(tmp_path / "d"), assets, hosts=(HOST,))
    site.routes = {**up, **down}
    world.ingest([uri], site.network())
    site.routes[path[late.asset.uid]] = up[path[late.asset.uid]]
    world.ingest([], site.network())
    gone = [one.asset for one in (late, early, never)]
    site.asked.clear()
    version = revoked(world.corpus, world.config, [revocation(*(one.asset_id for one in gone))])
    assert world.told(version).keys() == {one.asset.uid for one in assets} - {one.uid for one in gone}
    pictures = [one.image for one in (late, early)]
    for name in world.corpus.store.names():
        if not name.startswith(("registers/revocations/", "receipts/")):
            data = world.corpus.store.read(name)
            assert not any(picture in data for picture in pictures), name
            assert not any(f'"{one.asset_id}"'.encode() in data for one in gone), name
            assert not any(path[one.uid].encode() in data for one in gone), name
    # Nothing that was brought is asked for again, and what is still missing is.
    assert site.asked == []
    site.routes = up
    after = world.ingest([], site.network())
    assert [asked.partition("?")[0] for asked, _ in site.asked] == [path[waiting.asset.uid]]
    assert world.told(after)[waiting.asset.uid] == ("kept", "")
    assert world.told(after).keys() == world.told(version).keys()


@pytest.mark.parametrize("allowed", [((), (HOST,)), ((HOST,), ())])
def test_an_address_is_followed_only_where_delivery_and_configuration_both_allow_it(
    tmp_path: Path, site: Site, tiny: Config, allowed: tuple[tuple[str, ...], tuple[str, ...]]
) -> None:
    delivered, configured = allowed
    world = World(Corpus(Store.at(tmp_path / "corpus")), allowing(tiny, hosts=configured))
    one = on_host(0)
    site.routes = {f"/{one.asset.asset_id}.png": body(one.image)}
    uri = at_addresses(Store.at(tmp_path / "d"), [one], hosts=delivered)
    assert world.told(world.ingest([uri], site.network())) == {one.asset.uid: ("quarantined", "host")}
    assert site.asked == []


def test_a_check_judges_by_the_rows_and_follows_nothing(tmp_path: Path, site: Site, world: World) -> None:
    bare = dataclasses.replace(on_host(1), facts=())
    plain = dataclasses.replace(on_host(2), uri="http://images.example/x.png")
    uri = at_addresses(Store.at(tmp_path / "d"), [on_host(0), bare, plain], hosts=(HOST,))
    [told] = checking.check(None, [uri], world.config, AS_OF)["deliveries"]
    assert told["decisions"] == {"in": 3, "kept": 2, "quarantined:scheme": 1}
    assert told["addresses"] == 3
    assert site.asked == []


def test_delivered_images_and_images_at_addresses_may_stand_in_one_table(
    tmp_path: Path, site: Site, world: World
) -> None:
    there = [on_host(number) for number in (0, 70)]
    site.routes = {f"/{one.asset.asset_id}.png": body(one.image) for one in there}
    here = [sample(number) for number in range(1, 70)]
    store = Store.at(tmp_path / "d")
    for asset, image in here:
        store.write(f"{asset.asset_id}.png", image)
    delivered = [
        Addressed(asset=asset, image=image, path=f"{asset.asset_id}.png", facts=()) for asset, image in here
    ]
    uri = at_addresses(store, sorted([*there, *delivered], key=lambda one: one.asset.uid), hosts=(HOST,))
    told = world.told(world.ingest([uri], site.network()))
    assert len(told) == 71
    assert {outcome for outcome, _ in told.values()} == {"kept"}


def test_no_token_of_an_address_stays_in_the_corpus(tmp_path: Path, site: Site, world: World) -> None:
    good, gone = on_host(0), on_host(1)
    site.routes = {f"/{good.asset.asset_id}.png": body(good.image)}
    uri = at_addresses(Store.at(tmp_path / "d"), [good, gone], hosts=(HOST,))
    world.ingest([uri], site.network())
    store = world.corpus.store
    assert [name for name in store.names() if SECRET.encode() in store.read(name)] == []


def test_objects_on_s3_are_read_in_the_version_that_is_stated(
    s3: Store, tmp_path: Path, tiny: Config
) -> None:
    client = s3_clients.client()
    client.create_bucket(Bucket="originals")
    client.put_bucket_versioning(Bucket="originals", VersioningConfiguration={"Status": "Enabled"})
    cases = []
    for number in range(4):
        asset, image = sample(number)
        put = client.put_object(Bucket="originals", Key=f"a b/{number}.png", Body=image)
        if number == 1:
            client.put_object(Bucket="originals", Key=f"a b/{number}.png", Body=b"changed since")
        if number == 2:
            client.delete_object(Bucket="originals", Key=f"a b/{number}.png", VersionId=put["VersionId"])
        bucket = "others" if number == 3 else "originals"
        uri = f"s3://{bucket}/a b/{number}.png"
        cases.append(Addressed(asset=asset, image=image, uri=uri, version=put["VersionId"]))
    uri = at_addresses(Store.at(f"{s3.uri}/d"), cases, buckets=("originals",))
    (tmp_path / "tiny.toml").write_text(TINY + '\n[pipeline.fetch]\nbuckets = ["originals"]\n')
    corpus = Corpus(Store.at(f"{s3.uri}/corpus"))
    tokens = ["ingest", uri, "--corpus", corpus.store.uri, "--config", str(tmp_path / "tiny.toml")]
    assert run([*tokens, "--as-of", AS_OF.isoformat(), "--engine", "inline"]) == 0
    world = World(corpus, tiny)
    assert list(world.told(corpus.newest()).values()) == [
        ("kept", ""),
        ("kept", ""),
        ("quarantined", "status"),
        ("quarantined", "bucket"),
    ]


def test_credentials_that_may_not_read_a_bucket_are_told_of_and_the_next_ingest_tries_again(
    s3: Store, tmp_path: Path, tiny: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keys of objects are no credentials and have no queries, whatever they look like."""
    client = s3_clients.client()
    client.create_bucket(Bucket="closed")
    cases = []
    for number, key in enumerate(("token=1/a.png", "q?a=1#2.png")):
        asset, image = sample(number)
        client.put_object(Bucket="closed", Key=key, Body=image)
        cases.append(Addressed(asset=asset, image=image, uri=f"s3://closed/{key}"))
    uri = at_addresses(Store.at(tmp_path / "d"), cases, buckets=("closed",))
    world = World(Corpus(Store.at(tmp_path / "corpus")), allowing(tiny, buckets=("closed",)))
    with monkeypatch.context() as other:
        other.setenv("AWS_ACCESS_KEY_ID", "nobody")
        s3_clients.forget()
        first = world.ingest([uri], INTERNET)
    assert set(world.told(first).values()) == {("failed", "unreachable")}
    [told, _] = rows(world.corpus, first, "images", ROWS)
    assert "give the environment's credentials read access to bucket 'closed'" in told["reasons"][0]
    s3_clients.forget()
    assert set(world.told(world.ingest([], INTERNET)).values()) == {("kept", "")}


def dialling(port: int) -> Network:
    """A network that can be sent to a worker: it resolves to a public address, and dials the server."""

    def dial(_place: tuple[str, int], timeout: float) -> socket.socket:
        return socket.create_connection(("127.0.0.1", port), timeout)

    return Network(resolve=lambda _host, _port: (PUBLIC,), connect=dial)


@pytest.mark.ray
@pytest.mark.timeout(300)
def test_images_are_fetched_on_ray_as_in_process(tmp_path: Path, site: Site, tiny: Config) -> None:
    """The workers of a cluster that starts here trust the server's certificate as this process does."""
    assets = [on_host(number) for number in range(40)]
    site.routes = {f"/{one.asset.asset_id}.png": body(one.image) for one in assets[:-1]}
    site.routes[f"/{assets[-1].asset.asset_id}.png"] = body(b"", status=404)
    uri = at_addresses(Store.at(tmp_path / "d"), assets, hosts=(HOST,))
    config = allowing(tiny, hosts=(HOST,))
    here, there = (World(Corpus(Store.at(tmp_path / name)), config) for name in ("here", "there"))
    with cluster.joined(None), contextlib.closing(OnRay()) as on_ray:
        first = there.ingest([uri], dialling(site.port), on_ray)
    assert here.ingest([uri], dialling(site.port)) == first
    prefixes = ("shards/", "artifacts/", "versions/", "deliveries/")
    assert contents(here.corpus.store, *prefixes) == contents(there.corpus.store, *prefixes)
    assert sorted(set(here.told(first).values())) == [("kept", ""), ("quarantined", "status")]
