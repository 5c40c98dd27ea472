"""The delivery of openclipart, on a handful of drawings made here; Debian's packages once, where they lie."""

from __future__ import annotations

import collections
import io
import itertools
import os
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from infra.cli import run
from infra.corpus import Corpus
from infra.storage import Store
from pipeline import tables
from pipeline.contract import Asset
from pipeline.deliveries import forms, openclipart
from pipeline.deliveries.opened import open_delivery
from pipeline.deliveries.sample import Delivered, Fault
from pipeline.deliveries.webdataset import read_shard
from pipeline.deliveries.writer import Heading, write_folder, write_table
from pipeline.refs import of
from pipeline.revoked import Revoked
from pipeline.rights import Purpose, decide
from pipeline.step import ROWS

FREE = "http://web.resource.org/cc/PublicDomain"
GPL = "http://creativecommons.org/licenses/GPL/2.0/"
ROOT = Path(os.environ.get("PARDALIS_OPENCLIPART", openclipart.ROOT))
NOW = datetime(2026, 11, 1, tzinfo=UTC)


def drawing(*licenses: str, title: str = "", author: str = "Ann B", more: str = "", before: str = "") -> str:
    named = "".join(f'<cc:license rdf:resource="{license_}"/>' for license_ in licenses)
    return (
        f'{before}<svg xmlns="http://www.w3.org/2000/svg"><metadata>'
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"'
        ' xmlns:cc="http://web.resource.org/cc/" xmlns:dc="http://purl.org/dc/elements/1.1/">'
        f'<cc:Work rdf:about=""><dc:title>{title}</dc:title>{named}{more}'
        f"<dc:creator><cc:Agent><dc:title>{author}</dc:title></cc:Agent></dc:creator></cc:Work>"
        "</rdf:RDF></metadata></svg>"
    )


def png(color: int, size: tuple[int, int] = (8, 4)) -> bytes:
    sink = io.BytesIO()
    Image.new("RGB", size, (color, 0, 0)).save(sink, "PNG")
    return sink.getvalue()


def tree(root: Path, drawings: dict[str, str]) -> Path:
    """The packages' two trees, with a picture for each drawing."""
    for number, (path, text) in enumerate(drawings.items()):
        for folder, suffix in (("svg", ".svg"), ("png", ".png")):
            (root / folder / path).parent.mkdir(parents=True, exist_ok=True)
            raw = text.encode() if suffix == ".svg" else png(number)
            (root / folder / f"{path}{suffix}").write_bytes(raw)
    return root


def some(root: Path) -> Path:
    """Three drawings: dedicated to the public, under the GPL, and under nothing."""
    return tree(root, {"a/frog": drawing(FREE, title="Frog"), "b/gnu": drawing(GPL), "c/none": drawing()})


def record(root: Path, path: str = "a") -> dict[str, Any]:
    [entry] = [entry for entry in openclipart.entries(root) if entry.path == f"{path}.svg"]
    return dict(openclipart.sample(entry, "d")[0])


def delivered(root: Path, folder: Path) -> dict[str, str]:
    """What becomes of each drawing, by path: kept, or the reason why it is not."""
    store = Store.at(folder)
    openclipart.deliver(store, root)
    opened = open_delivery(store)
    path_of = {entry.asset_id: entry.path for entry in openclipart.entries(root)}
    outcomes = {}
    for found in (found for shard in opened.shards for found in read_shard(opened, shard)):
        if isinstance(found.asset, Fault):
            outcomes[path_of[found.key]] = found.asset.code
            continue
        decision = decide(found.asset, opened.licenses, purpose=Purpose(), as_of=NOW, revoked=Revoked())
        outcomes[path_of[found.key]] = ", ".join(decision.reasons) or decision.outcome
    return outcomes


def test_every_drawing_is_delivered_and_its_licence_decides(tmp_path: Path) -> None:
    entities = '<!DOCTYPE svg [<!ENTITY unused "x">]>'
    root = tree(
        tmp_path / "root",
        {
            "a/dedicated": drawing(FREE),
            "a/deed": drawing("http://creativecommons.org/licenses/publicdomain/"),
            "a/twice": drawing(FREE, FREE),
            "b/document_type": drawing(FREE, before='<!DOCTYPE svg PUBLIC "-//W3C//DTD" "http://x/svg.dtd">'),
            "c/gpl": drawing(GPL),
            "c/either": drawing(GPL, FREE),
            "d/blank": drawing(""),
            "d/none": drawing(),
            "d/unknown": drawing("http://example.org/free"),
            "d/known_and_unknown": drawing(FREE, "http://creativecommons.org/licenses/by-nc/2.0/"),
            "d/almost": drawing(FREE.lower()),
            "e/no_metadata": "<svg/>",
            "e/entities": drawing(FREE, before=entities),
            "e/no_xml": "apple",
            "people/einstein": drawing(FREE),
        },
    )
    outcomes = delivered(root, tmp_path / "out")
    denied = "use_not_granted:generation, use_not_granted:ml_training"
    assert outcomes == {
        "a/dedicated.svg": "kept",
        "a/deed.svg": "kept",
        "a/twice.svg": "kept",
        "b/document_type.svg": "kept",
        "c/gpl.svg": denied,
        "c/either.svg": "kept",
        "d/blank.svg": "no_license",
        "d/none.svg": "no_license",
        "d/unknown.svg": "no_license",
        "d/known_and_unknown.svg": "no_license",
        "d/almost.svg": "no_license",
        "e/no_metadata.svg": "no_license",
        "e/entities.svg": "no_license",
        "e/no_xml.svg": "no_license",
        "people/einstein.svg": "release:model",
    }


def test_a_record_says_what_the_drawing_says(tmp_path: Path) -> None:
    words = "".join(f"<rdf:li>{word}</rdf:li>" for word in ("hash", "new_fruit", "ann b", "red", "red"))
    more = (
        f"<dc:subject><rdf:Bag>{words}</rdf:Bag></dc:subject><dc:date>6/24/2005</dc:date>"
        "<dc:rights>CC</dc:rights><dc:description>One of the apples on our table</dc:description>"
    )
    path = "food/new_fruit/apple_01"
    root = tree(tmp_path, {path: drawing(FREE, title="Apple d&amp;#39;or", more=more)})
    asset = Asset.model_validate(record(root, path))
    assert (asset.title, asset.description) == ("Apple d'or", "Apple d'or. One of the apples on our table")
    assert asset.keywords == ("new fruit", "red")
    assert [category.name for category in asset.categories] == ["food", "new fruit"]
    assert (asset.contributor.display_name, asset.credit_line) == ("Ann B", "Ann B")
    assert asset.copyright_notice == "CC"
    assert (asset.file.width, asset.file.height, asset.file.mime) == (8, 4, "image/png")
    assert asset.extra == {"provider_id": f"{path}.svg", "date": "6/24/2005"}


def test_why_the_metadata_cannot_be_read_is_told(tmp_path: Path) -> None:
    root = tree(tmp_path, {"food/red_apple": drawing(FREE, before='<!DOCTYPE svg [<!ENTITY unused "x">]>')})
    told_of = record(root, "food/red_apple")
    assert told_of["extra"]["metadata"].startswith("entities: ")
    assert (told_of["description"], told_of["keywords"]) == ("red apple", [])


@pytest.mark.parametrize("write", [write_folder, partial(write_table, name="assets.csv")])
def test_a_record_that_is_wrong_is_written_in_every_form(tmp_path: Path, write: Callable[..., Any]) -> None:
    root = tree(tmp_path / "root", {"a": drawing()})
    heading = Heading(provider="openclipart", delivery_id="d", sequence=0, kind="full", created_at=NOW)
    samples = [openclipart.sample(entry, "d") for entry in openclipart.entries(root)]
    store = Store.at(tmp_path / "out")
    delivery = write(store, heading, licenses=openclipart.LICENSES, samples=samples)
    form = forms.of(delivery)
    at = Delivered(store=store, delivery=delivery)
    found = [found for batch in form.batches(at) for found in form.read(at, batch)]
    assert [found.asset.code for found in found if isinstance(found.asset, Fault)] == ["no_license"]


def test_the_same_packages_are_the_same_bytes(tmp_path: Path) -> None:
    root = tree(tmp_path / "root", {name: drawing(FREE, title=name) for name in "abc"})
    one, two = Store.at(tmp_path / "one"), Store.at(tmp_path / "two")
    first = openclipart.deliver(one, root, sequence=3, kind="correction")
    openclipart.deliver(two, root, sequence=3, kind="correction")
    assert {name: one.read(name) for name in one.names()} == {name: two.read(name) for name in two.names()}
    assert (first.sequence, first.kind, first.counts) == (3, "correction", {"samples": 3})


def test_drawings_come_in_the_order_of_their_ids_which_are_of_their_paths(tmp_path: Path) -> None:
    root = tree(tmp_path, {name: drawing(FREE) for name in ("b", "a/ü", "a/b c")})
    ids = [entry.asset_id for entry in openclipart.entries(root)]
    assert ids == sorted(ids)
    assert record(root, "a/b c")["asset_id"] == "p46hvxpi22wbzpouusvxf65vm4"


def test_a_drawing_that_is_a_link_is_no_item(tmp_path: Path) -> None:
    root = tree(tmp_path, {"a": drawing(FREE)})
    (root / "svg" / "again.svg").symlink_to("a.svg")
    assert [entry.path for entry in openclipart.entries(root)] == ["a.svg"]


def test_a_picture_may_be_a_link_to_another_picture_and_to_nothing_else(tmp_path: Path) -> None:
    root = tree(tmp_path / "root", {"a": drawing(FREE), "b/b": drawing(FREE)})
    link = root / "png" / "b" / "b.png"
    link.unlink()
    link.symlink_to("../a.png")
    assert record(root, "b/b")["file"] == record(root, "a")["file"]
    (tmp_path / "root" / "svg" / "secret.png").write_bytes(png(9))
    for target in ("../../svg/secret.png", str(tmp_path / "root" / "svg" / "secret.png"), "nowhere.png"):
        link.unlink()
        link.symlink_to(target)
        with pytest.raises(ValueError, match=r"b/b\.svg: its picture .* is no file in .*/png; install"):
            openclipart.entries(root)


def test_the_trees_themselves_may_lie_elsewhere(tmp_path: Path) -> None:
    tree(tmp_path / "packages", {"a": drawing(FREE)})
    for name in ("svg", "png"):
        (tmp_path / name).symlink_to(tmp_path / "packages" / name)
    assert delivered(tmp_path, tmp_path / "out") == {"a.svg": "kept"}


def test_a_folder_without_drawings_and_a_picture_that_is_none_are_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="apt-get install openclipart-svg openclipart-png"):
        openclipart.entries(tmp_path)
    root = tree(tmp_path, {"a": drawing(FREE)})
    (root / "png" / "a.png").write_bytes(b"GIF89a")
    with pytest.raises(ValueError, match=r"a\.png is no PNG: it begins with b'GIF89a'"):
        record(root)


def test_what_nobody_drew_is_nobody_elses(tmp_path: Path) -> None:
    names = {"a": "", "b": "HASH(0x89c79d4)", "c": "Anonymous", "d": "Ann  B", "e": "Ann B"}
    root = tree(tmp_path, {path: drawing(FREE, author=author) for path, author in names.items()})
    ids = {path: record(root, path)["contributor"]["id"] for path in names}
    assert ids["d"] == ids["e"] == "Ann B"
    assert len({ids["a"], ids["b"], ids["c"]}) == 3


@pytest.mark.parametrize(
    ("path", "keywords", "has_people"),
    [
        ("food/apple", "fruit", "no"),
        ("people/bach", "music", "unknown"),
        ("computer/people_01", "", "unknown"),
        ("music/bach", "People", "unknown"),
    ],
)
def test_who_is_drawn_is_unknown_where_path_or_keywords_say_people(
    tmp_path: Path, path: str, keywords: str, has_people: str
) -> None:
    more = f"<dc:subject><rdf:Bag><rdf:li>{keywords}</rdf:li></rdf:Bag></dc:subject>"
    assert record(tree(tmp_path, {path: drawing(FREE, more=more)}), path)["has_people"] == has_people


MISSING = f"{ROOT} has no svg: apt-get install openclipart-svg openclipart-png, or set PARDALIS_OPENCLIPART"
REASONS = {
    "decide rejected no_license": 67,
    "decide rejected use_not_granted": 2,
    "decide rejected release": 401,
    "images failed undecodable": 14,
    " kept ": 6974,
}
"""61 leave their licence blank; 6 declare entities, so that their metadata, licences too, are unread. Four
paths are under the GPL, of which two are links to the other two. Then people, and pictures of 168 to 623 MP.
"""


@pytest.mark.slow
@pytest.mark.plan
@pytest.mark.timeout(1200)
@pytest.mark.skipif(not (ROOT / "svg").is_dir(), reason=MISSING)
def test_debians_7458_drawings_each_end_once_and_69_for_want_of_a_licence(tmp_path: Path) -> None:
    delivery = openclipart.deliver(Store.at(tmp_path / "delivery"), ROOT)
    assert delivery.counts == {"samples": 7458}
    words = ["--as-of", "2026-11-01T00:00:00Z", "--engine", "inline"]
    assert run(["ingest", str(tmp_path / "delivery"), "--corpus", str(tmp_path / "corpus"), *words]) == 0
    rows = ingested(Corpus(Store.at(tmp_path / "corpus")))
    reasons = collections.Counter(
        f"{row['settled_by']} {row['outcome']} {next(iter(row['reasons']), '').partition(':')[0]}"
        for row in rows
    )
    uids = [row["uid"] for row in rows]
    assert len(set(uids)) == len(uids) == sum(reasons.values()) == 7458, reasons
    assert set(uids) == {f"openclipart:{entry.asset_id}" for entry in openclipart.entries(ROOT)}
    assert reasons == REASONS, reasons


def ingested(corpus: Corpus) -> list[dict[str, Any]]:
    """The catalog's rows, once ``ingest`` is done."""
    shards = corpus.artifact(corpus.newest(), "images").shards.values()
    return list(
        itertools.chain(*(tables.read_parquet(of(corpus.store, shard, ROWS)).to_pylist() for shard in shards))
    )
