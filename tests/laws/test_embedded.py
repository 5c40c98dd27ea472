"""A law of what files say: an image whose own metadata forbids mining is out, and nothing of it is later."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image, PngImagePlugin

from infra.corpus import Corpus, Version
from infra.storage import Store
from pipeline import archive, refs, tables
from pipeline.engine import Inline
from pipeline.explaining import catalog_rows
from pipeline.extract import extract
from pipeline.step import IMAGES

from .conftest import Build, Deliveries, Samples, sample
from .test_build import LATER

pytestmark = pytest.mark.plan
XMP = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description xmlns:plus="http://ns.useplus.org/ldf/xmp/1.0/" xmlns:dc="http://purl.org/dc/elements/1.1/"'
    ' xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"'
    ' rdf:about="">{}</rdf:Description></rdf:RDF></x:xmpmeta>'
)
MINING = "<plus:DataMining>http://ns.useplus.org/ldf/vocab/DMI-{}</plus:DataMining>"
CREATOR = "<dc:creator><rdf:Seq><rdf:li>J. Doe</rdf:li></rdf:Seq></dc:creator>"
MINOR = "<plus:MinorModelAgeDisclosure>http://ns.useplus.org/ldf/vocab/AG-A15</plus:MinorModelAgeDisclosure>"
SOURCE = "<Iptc4xmpExt:DigitalSourceType>trainedAlgorithmicMedia</Iptc4xmpExt:DigitalSourceType>"
PROHIBITED = ["embedded_prohibition:generation", "embedded_prohibition:ml_training"]
SAID = {
    3: (XMP.format(MINING.format("PROHIBITED")), "quarantined", PROHIBITED),
    5: (
        XMP.format(MINING.format("PROHIBITED-SEECONSTRAINT")),
        "quarantined",
        ["embedded_constraint:data_mining"],
    ),
    7: ("<!DOCTYPE x>" + XMP, "quarantined", ["embedded_constraint:unreadable_xmp"]),
    8: (XMP.format(MINOR), "rejected", ["minors"]),
    10: (XMP.format(SOURCE), "quarantined", ["embedded_conflict:ai_generated"]),
    9: (XMP.format(CREATOR + MINING.format("ALLOWED")), "kept", []),
}
"""The packet in the file, and what becomes of its asset."""
OUT = [number for number, (_, outcome, _) in SAID.items() if outcome != "kept"]


def told(number: int) -> Samples:
    """The sample as always, or with a packet in its file."""
    asset, image = sample(number)
    if number not in SAID:
        return [(asset, image)]
    text, sink = PngImagePlugin.PngInfo(), io.BytesIO()
    text.add_itxt("XML:com.adobe.xmp", SAID[number][0])
    with Image.open(io.BytesIO(image)) as picture:
        picture.save(sink, "PNG", pnginfo=text)
    image = sink.getvalue()
    file = json.loads(asset.file.model_dump_json())
    file |= {"sha256": hashlib.sha256(image).hexdigest(), "bytes": len(image)}
    return [(sample(number, file=file)[0], image)]


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    return Corpus(Store.at(tmp_path / "corpus"))


@pytest.fixture
def uri(deliveries: Deliveries) -> str:
    return deliveries.write([one for number in range(24) for one in told(number)])


def training_images(corpus: Corpus, version: Version) -> dict[str, bytes]:
    shards = corpus.artifact(version, "images").shards.values()
    tars = (archive.images(refs.of(corpus.store, shard, IMAGES).read()) for shard in shards)
    return {key: image for tar in tars for key, image in tar.items()}


def uids_later(corpus: Corpus, version: Version) -> Iterator[tuple[str, set[str]]]:
    """(file, uids) of every table that the steps made which see kept rows only."""
    for step in LATER:
        for shard in corpus.artifact(version, step).shards.values():
            for name in shard.files:
                if name.endswith(".parquet"):
                    table = tables.read_parquet(refs.of(corpus.store, shard, name))
                    if "uid" in table.column_names:
                        yield f"{step}/{name}", set(table["uid"].to_pylist())


def test_an_image_whose_file_forbids_mining_is_out_and_absent_later(
    corpus: Corpus, uri: str, built: Build
) -> None:
    version = built(corpus, [uri], Inline())
    pictures = training_images(corpus, version)
    for number, (_, outcome, reasons) in SAID.items():
        asset = told(number)[0][0]
        (row,) = catalog_rows(corpus, version, asset.uid)
        assert (row["outcome"], row["reasons"]) == (outcome, reasons)
        assert row["settled_by"] == ("" if outcome == "kept" else "decide")
        assert (asset.member_key in pictures) == (outcome == "kept")
    gone = {told(number)[0][0].uid for number in OUT}
    later = list(uids_later(corpus, version))
    assert any(uids for _, uids in later)
    assert [name for name, uids in later if uids & gone] == []


def test_the_notices_of_a_kept_image_stay_with_its_training_picture(
    corpus: Corpus, uri: str, built: Build
) -> None:
    version = built(corpus, [uri], Inline(), to="filter")
    asset = told(9)[0][0]
    notices = extract(training_images(corpus, version)[asset.member_key]).notices
    assert notices.creators == ("J. Doe",)
    assert notices.data_mining.endswith("/DMI-ALLOWED")
