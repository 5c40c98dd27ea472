"""An image described by its own metadata: by the first source that says it, as the contract takes it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from infra.guarded import blocks
from pipeline import contract, description, stated
from pipeline.contract import Asset
from pipeline.extract import extract

from .metadata import PLAIN, data_set, iptc, jpeg, jpeg_xmp, resource, saved, segment, webp, xmp


def completed(found: dict[str, Any]) -> Asset:
    """The record with all that it leaves out, as another source may state it."""
    rest = contract.template()["asset"] | {"has_people": "yes"}
    return Asset.model_validate(stated.filled(found, rest))


def alternatives(name: str, text: str) -> str:
    return (
        f'<{name}><rdf:Alt><rdf:li xml:lang="de">Deutsch</rdf:li>'
        f'<rdf:li xml:lang="x-default">{text}</rdf:li></rdf:Alt></{name}>'
    )


def bag(name: str, *texts: str) -> str:
    return f"<{name}><rdf:Bag>{''.join(f'<rdf:li>{text}</rdf:li>' for text in texts)}</rdf:Bag></{name}>"


def of_xmp(inside: str) -> dict[str, Any]:
    return description.record(jpeg_xmp(xmp(inside)))


FULL = (
    alternatives("dc:description", "A red bicycle &amp; a wall")
    + alternatives("dc:title", "Market")
    + alternatives("dc:rights", "© Acme")
    + bag("dc:subject", "bicycle", "red", "bicycle")
    + bag("dc:creator", "J. Doe", "R. Roe")
    + "<photoshop:Credit>Acme Images</photoshop:Credit><photoshop:Headline>Noon</photoshop:Headline>"
    + "<photoshop:DateCreated>2024-05-01T12:00:00+02:00</photoshop:DateCreated>"
    + "<Iptc4xmpCore:CountryCode>nl</Iptc4xmpCore:CountryCode>"
    + '<plus:ModelReleaseStatus rdf:resource="http://ns.useplus.org/ldf/vocab/MR-LMR"/>'
    + "<plus:PropertyReleaseStatus>PR-NAP</plus:PropertyReleaseStatus>"
    + "<plus:MinorModelAgeDisclosure>AG-A25</plus:MinorModelAgeDisclosure>"
    + "<plus:ImageSupplierImageID>IMG 0001.final</plus:ImageSupplierImageID>"
    + "<Iptc4xmpExt:DigitalSourceType>"
    + "http://cv.iptc.org/newscodes/digitalsourcetype/digitalCapture</Iptc4xmpExt:DigitalSourceType>"
    + bag("Iptc4xmpExt:PersonInImage", "Jane Roe")
    + "<photoshop:City>Delft</photoshop:City>"
)
RECORD = {
    "title": "Market",
    "description": "A red bicycle & a wall",
    "keywords": ["bicycle", "red"],
    "contributor": {"display_name": "J. Doe, R. Roe"},
    "credit_line": "Acme Images",
    "copyright_notice": "© Acme",
    "location": {"country": "NL"},
    "date_created": "2024-05-01T10:00:00Z",
    "extra": {"supplier_image_id": "IMG 0001.final"},
    "releases": {"model": "limited", "property": "not_applicable"},
    "has_minors": "no",
    "digital_source_type": "http://cv.iptc.org/newscodes/digitalsourcetype/digitalCapture",
}


def pillow_png(packet: bytes) -> bytes:
    text = PngImagePlugin.PngInfo()
    text.add_itxt("XML:com.adobe.xmp", packet.decode(), zip=True)
    return saved("PNG", pnginfo=text)


@pytest.mark.parametrize("write", [lambda packet: saved("JPEG", xmp=packet), pillow_png, webp])
def test_a_picture_is_described_by_the_xmp_inside_it_or_beside_it(write: Any) -> None:
    assert description.record(write(xmp(FULL))) == RECORD
    assert description.record(write(xmp("")), [xmp(FULL)]) == RECORD
    assert completed(RECORD).description == RECORD["description"]


@pytest.mark.parametrize("kind", PLAIN)
def test_a_picture_without_metadata_is_described_by_nothing(kind: str) -> None:
    assert description.record(PLAIN[kind]) == {}


def exif(description: str) -> bytes:
    block = Image.Exif()
    block[0x010E], block[0x013B], block[0x8298] = description, "E. Artist", "(c) Exif"
    gps = block.get_ifd(0x8825)
    gps[1], gps[2] = "N", (52.0, 0.0, 36.0)
    return block.tobytes()


IPTC = (
    data_set(2, 120, b"From IPTC"),
    data_set(2, 5, b"Object"),
    data_set(2, 105, b"Headline"),
    data_set(2, 25, b"one"),
    data_set(2, 25, b"two"),
    data_set(2, 80, b"I. Byline"),
    data_set(2, 110, b"Credit"),
    data_set(2, 116, b"(c) IPTC"),
    data_set(2, 55, b"20240501"),
    data_set(2, 60, b"120000+0200"),
)
IPTC_RECORD = {
    "title": "Object",
    "description": "From IPTC",
    "keywords": ["one", "two"],
    "contributor": {"display_name": "I. Byline"},
    "credit_line": "Credit",
    "copyright_notice": "(c) IPTC",
    "date_created": "2024-05-01T10:00:00Z",
}


def test_iptc_and_exif_describe_where_there_is_no_xmp() -> None:
    assert description.record(iptc(*IPTC)) == IPTC_RECORD
    assert description.record(iptc(data_set(2, 105, b"Headline"))) == {"title": "Headline"}
    for kind in PLAIN:
        assert description.record(saved(kind, exif=exif("From EXIF"))) == {
            "description": "From EXIF",
            "contributor": {"display_name": "E. Artist"},
            "copyright_notice": "(c) Exif",
        }


def test_each_field_is_taken_from_the_first_source_that_has_it() -> None:
    block = blocks.PHOTOSHOP_APP13 + resource(0x0404, b"".join(IPTC))
    image = jpeg(
        segment(0xE1, blocks.EXIF_APP1 + exif("From EXIF").removeprefix(blocks.EXIF_APP1)),
        segment(
            0xE1, blocks.XMP_APP1 + xmp(bag("dc:creator", "Inside") + alternatives("dc:title", "Inside"))
        ),
        segment(0xED, block),
    )
    beside = xmp(alternatives("dc:title", "Beside") + bag("dc:subject", "beside"))
    found = description.record(image, [beside])
    assert found == {
        **IPTC_RECORD,
        "title": "Beside",
        "keywords": ["beside"],
        "contributor": {"display_name": "Inside"},
    }


def test_a_packet_that_cannot_be_read_describes_nothing_and_rights_know_of_it() -> None:
    image = jpeg_xmp(xmp(alternatives("dc:title", "Inside")))
    assert description.record(image, [b"<not"]) == {"title": "Inside"}
    assert extract(image, [b"<not"]).extracted.unread == ("unreadable_xmp",)


@pytest.mark.parametrize(
    ("written", "recorded"),
    [
        ("2024-05-01T12:00:00Z", "2024-05-01T12:00:00Z"),
        ("2024-05-01T12:00:00.25-01:00", "2024-05-01T13:00:00.250000Z"),
        ("2024-05-01T12:00+02:00", "2024-05-01T10:00:00Z"),
        ("2024-01-01T00:30:00+02:00", "2023-12-31T22:30:00Z"),
        ("2024-05-01T12:00:00", None),
        ("2024-05-01", None),
        ("2024", None),
        ("0001-01-01T00:00:00+02:00", None),
        ("0999-12-31T00:00:00Z", None),
        ("2024-02-30T12:00:00Z", None),
        ("yesterday", None),
    ],
)
def test_a_date_is_recorded_only_where_it_is_an_instant(written: str, recorded: str | None) -> None:
    for name in ("photoshop:DateCreated", "xmp:CreateDate"):
        assert of_xmp(f"<{name}>{written}</{name}>") == ({"date_created": recorded} if recorded else {})


def test_a_date_with_a_zone_counts_behind_one_without() -> None:
    inside = "<photoshop:DateCreated>2024-05-01</photoshop:DateCreated>"
    inside += "<xmp:CreateDate>2024-05-01T12:00:00Z</xmp:CreateDate>"
    assert of_xmp(inside) == {"date_created": "2024-05-01T12:00:00Z"}
    assert description.record(iptc(data_set(2, 55, b"20240501"), data_set(2, 60, b"120000"))) == {}
    assert description.record(iptc(data_set(2, 55, b"20240501"))) == {}


@pytest.mark.parametrize("code", ["NLD", "Netherlands", "N1", "N", "NL, DE", "NL DE"])
def test_a_country_is_recorded_only_by_its_two_letters(code: str) -> None:
    assert of_xmp(f"<Iptc4xmpCore:CountryCode>{code}</Iptc4xmpCore:CountryCode>") == {}


@pytest.mark.parametrize(
    ("beside", "inside", "recorded"),
    [
        ("MR-UMR", "MR-UMR", "unlimited"),
        ("MR-UMR", "MR-NAP", "not_applicable"),
        ("MR-UMR", "MR-LMR", "limited"),
        ("MR-LMR", "MR-NON", "none"),
        ("MR-UMR", "MR-NEW", "unknown"),
        ("MR-UMR", "PR-UPR", "unknown"),
    ],
)
def test_of_two_releases_the_lesser_is_recorded(beside: str, inside: str, recorded: str) -> None:
    packets = [
        xmp(f"<plus:ModelReleaseStatus>{value}</plus:ModelReleaseStatus>") for value in (beside, inside)
    ]
    for first, second in (packets, reversed(packets)):
        assert description.record(jpeg_xmp(second), [first]) == {"releases": {"model": recorded}}


@pytest.mark.parametrize(
    ("ages", "recorded"),
    [
        (["AG-U14"], "yes"),
        (["AG-A17", "AG-A25"], "yes"),
        (["AG-A18"], "no"),
        (["AG-UNK", "AG-A25"], "unknown"),
        (["AG-NEW"], "unknown"),
    ],
)
def test_of_several_ages_the_youngest_counts(ages: list[str], recorded: str) -> None:
    assert of_xmp(bag("plus:MinorModelAgeDisclosure", *ages)) == {"has_minors": recorded}


CV = "http://cv.iptc.org/newscodes/digitalsourcetype/"


@pytest.mark.parametrize(
    ("kinds", "recorded"),
    [
        ([f"{CV}digitalCapture"], {"digital_source_type": f"{CV}digitalCapture"}),
        (
            [f"{CV}digitalCapture", f"{CV}trainedAlgorithmicMedia"],
            {"digital_source_type": f"{CV}trainedAlgorithmicMedia", "ai_generated": "yes"},
        ),
        (
            [f"{CV}compositeWithTrainedAlgorithmicMedia"],
            {"digital_source_type": f"{CV}compositeWithTrainedAlgorithmicMedia", "ai_generated": "partial"},
        ),
        (["trainedAlgorithmicMedia"], {"ai_generated": "yes"}),
        ([f"{CV}algorithmicMedia"], {"digital_source_type": f"{CV}algorithmicMedia"}),
        (["a camera"], {}),
    ],
)
def test_a_picture_that_a_model_made_says_so(kinds: list[str], recorded: dict[str, str]) -> None:
    assert of_xmp(bag("Iptc4xmpExt:DigitalSourceType", *kinds)) == recorded


LONGEST = {"title": 400, "description": 4000, "credit_line": 512, "copyright_notice": 1024}


@pytest.mark.parametrize(("field", "most"), LONGEST.items())
def test_a_text_that_is_too_long_ends_with_a_word(field: str, most: int) -> None:
    name = {"title": "dc:title", "description": "dc:description"}.get(field, "photoshop:Credit")
    name = "dc:rights" if field == "copyright_notice" else name
    words = "four " * most
    cut = of_xmp(f"<{name}>{words}</{name}>")[field]
    assert len(cut) == (most + 1) // 5 * 5 - 1
    assert cut.endswith("four")
    assert of_xmp(f"<{name}>{'x' * most}</{name}>")[field] == "x" * most
    assert of_xmp(f"<{name}>{'x' * (most + 1)}</{name}>")[field] == "x" * most
    assert of_xmp(f"<{name}>{'x' * most} y</{name}>")[field] == "x" * most


def test_hidden_characters_are_no_words_and_texts_are_in_one_form() -> None:
    assert of_xmp("<dc:description>Cafe\u202e\u0301\u0085 now</dc:description>") == {
        "description": "Café now"
    }
    assert of_xmp("<dc:description>\u202e</dc:description>") == {}
    assert description.record(iptc(data_set(2, 120, b" \0 "))) == {}


texts = st.text(st.characters(codec="utf-8", exclude_characters="<&\r", min_codepoint=32), max_size=5000)


@given(st.fixed_dictionaries(dict.fromkeys(("title", "description", "subject", "creator", "rights"), texts)))
def test_whatever_a_file_says_of_itself_the_contract_takes(told: dict[str, str]) -> None:
    inside = "".join(bag(f"dc:{name}", *text.split(",")) for name, text in told.items())
    packet = xmp(inside.replace("\ufffe", "").replace("\uffff", ""))
    found = description.record(webp(packet), [])
    completed(found)
    assert description.record(PLAIN["PNG"], [packet]) == found
    assert all(found.values())


@given(st.sampled_from([jpeg_xmp(xmp(FULL)), iptc(*IPTC), saved("PNG", exif=exif("x"))]), st.data())
def test_no_mutation_makes_it_fail(image: bytes, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, min(len(image), 2500)))
    changed = image[:place] + data.draw(st.binary(max_size=4)) + image[place + data.draw(st.integers(0, 4)) :]
    completed(description.record(changed))
