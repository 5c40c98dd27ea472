"""What image files say of their use is found wherever it stands, and damage never passes for silence."""

from __future__ import annotations

import io
import struct
import zlib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from infra.guarded import blocks
from pipeline import embedded, looking, notices
from pipeline.embedded import NOTHING, Extracted, signals
from pipeline.extract import extract, notices_of
from pipeline.notices import Notices
from tokenizer_service import jpegs

from .metadata import (
    NO,
    PLAIN,
    YES,
    Write,
    chunk,
    data_set,
    iptc,
    jpeg,
    jpeg_xmp,
    photoshop,
    png,
    png_text,
    resource,
    saved,
    segment,
    tiff,
    webp,
    xmp,
)

PLACES: dict[str, Write] = {
    "jpeg": jpeg_xmp,
    "jpeg_behind_garbage": lambda packet: jpeg(
        segment(0xE2, b"x"), b"junk", segment(0xE1, blocks.XMP_APP1 + packet)
    ),
    "jpeg_behind_fill": lambda packet: jpeg(b"\xff\xff", segment(0xE1, blocks.XMP_APP1 + packet)),
    "jpeg_photoshop": lambda packet: photoshop(resource(0x0424, packet)),
    "jpeg_exif": lambda packet: jpeg(segment(0xE1, tiff(0x02BC, packet, kind=1))),
    "png": lambda packet: png(png_text(packet)),
    "png_packed": lambda packet: png(png_text(packet, packed=True)),
    "png_after_the_pixels": lambda packet: png(png_text(packet), at_end=True),
    "webp": webp,
}


def training_picture(image: bytes) -> bytes:
    """As ingestion makes it; raises for what is no picture."""
    picture = looking.picture(looking.look(image, {"max_side": 64}), 64)
    return jpegs.encode(picture.pixels_HWC, 95, xmp=notices.packet(notices_of(image)))


@pytest.mark.parametrize("place", PLACES)
def test_a_prohibition_is_found_wherever_xmp_stands(place: str) -> None:
    image = PLACES[place](xmp())
    assert training_picture(image), "the file is a good picture"
    assert extract(image).extracted == Extracted(data_mining=(NO,))


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("packet", [b"<x", b"<!DOCTYPE a>" + xmp(), xmp()[:-30], xmp() + b"<more/>", b""])
def test_a_packet_that_cannot_be_read_is_named(place: str, packet: bytes) -> None:
    found = extract(PLACES[place](packet)).extracted
    if not packet and place == "webp":
        return  # Pillow writes no empty chunk
    assert "unreadable_xmp" in found.unread
    assert signals(found).unclear.keys() == embedded.EVERY_USE


@pytest.mark.parametrize("kind", PLAIN)
def test_a_file_without_metadata_says_nothing(kind: str) -> None:
    found = extract(PLAIN[kind])
    assert (found.extracted, found.notices) == (NOTHING, notices.SILENT)


def test_every_packet_counts_whatever_comes_first() -> None:
    allowed = xmp(f"<plus:DataMining>{YES}</plus:DataMining>")
    for packets in ((allowed, xmp()), (xmp(), allowed)):
        image = jpeg(*(segment(0xE1, blocks.XMP_APP1 + packet) for packet in packets))
        found = extract(image)
        assert signals(found.extracted).denied == embedded.MINING
        assert found.notices.data_mining == NO


PLACE = f"<plus:DataMining>{YES}</plus:DataMining>"


@pytest.mark.parametrize(
    ("inside", "beside", "said"),
    [
        ("", xmp(), Extracted(data_mining=(NO,))),
        (PLACE, xmp(), Extracted(data_mining=(NO, YES))),
        (f"<plus:DataMining>{NO}</plus:DataMining>", xmp(PLACE), Extracted(data_mining=(YES, NO))),
        ("", b"<not", Extracted(unread=("unreadable_xmp",))),
        ("", b"", Extracted(unread=("unreadable_xmp",))),
        ("", xmp("<xmpNote:HasExtendedXMP>AB</xmpNote:HasExtendedXMP>"), Extracted(unread=("extended_xmp",))),
        ("", xmp(f"<!--{'x' * 1024 * 1024}-->"), Extracted(unread=("unreadable_xmp",))),
    ],
)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_a_packet_beside_the_image_counts_like_one_inside(
    kind: str, inside: str, beside: bytes, said: Extracted
) -> None:
    write = {"JPEG": jpeg_xmp, "PNG": lambda packet: png(png_text(packet)), "WEBP": webp}[kind]
    image = write(xmp(inside)) if inside else PLAIN[kind]
    assert extract(image, [beside]).extracted == said


def test_a_packet_beside_the_image_hides_no_stray_prohibition_inside() -> None:
    assert extract(PLAIN["JPEG"] + xmp(), [xmp()]).extracted.unread == ("stray_data_mining",)


def test_more_packets_beside_than_anybody_writes_ask_for_a_person() -> None:
    assert extract(PLAIN["PNG"], [xmp("")] * 16).extracted == NOTHING
    assert extract(PLAIN["PNG"], [xmp("")] * 17).extracted.unread == ("too_many_blocks",)


def test_notices_come_from_the_packet_beside_the_image_first() -> None:
    image, beside = jpeg_xmp(xmp("<photoshop:Credit>Inside</photoshop:Credit>")), "<photoshop:Credit>Beside"
    packets = [xmp(f"{beside}</photoshop:Credit>")]
    assert notices_of(image, packets) == extract(image, packets).notices == Notices(credit="Beside")
    assert notices_of(image, [b"<not"]) == Notices(credit="Inside")


PLUS = "http://ns.useplus.org/ldf/vocab/"
SOURCE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("plus:ModelReleaseStatus", f"{PLUS}MR-LMR", Extracted(model_release=(f"{PLUS}MR-LMR",))),
        ("plus:PropertyReleaseStatus", "PR-NON", Extracted(property_release=("PR-NON",))),
        ("plus:MinorModelAgeDisclosure", f"{PLUS}AG-A15", Extracted(minor_age=(f"{PLUS}AG-A15",))),
        ("Iptc4xmpExt:DigitalSourceType", SOURCE, Extracted(digital_source=(SOURCE,))),
    ],
)
def test_releases_ages_and_digital_sources_are_found_as_they_are_written(
    name: str, value: str, said: Extracted
) -> None:
    forms = [f"<{name}>{value}</{name}>", f'<{name} rdf:resource="{value}"/>']
    attribute = xmp("").replace(b'rdf:about=""', f'rdf:about="" {name}="{value}"'.encode())
    for packet in (*map(xmp, forms), attribute):
        assert extract(jpeg_xmp(packet)).extracted == said
        assert extract(PLAIN["WEBP"], [packet]).extracted == said
        spoofed = packet.replace(b"http://ns.useplus.org/ldf/xmp", b"http://evil.example").replace(
            b"http://iptc.org/std", b"http://evil.example"
        )
        assert extract(jpeg_xmp(spoofed)).extracted == NOTHING


@pytest.mark.parametrize(
    ("address", "unread"),
    [
        ("https://manifests.example/a.c2pa", ("remote_manifest",)),
        ("HTTP://manifests.example/a.c2pa", ("remote_manifest",)),
        ("self#jumbf=/c2pa/urn:c2pa:1", ()),
    ],
)
def test_a_manifest_at_an_address_is_named_and_one_inside_is_not(
    address: str, unread: tuple[str, ...]
) -> None:
    packet = xmp(f"<dcterms:provenance>{address}</dcterms:provenance>")
    assert extract(jpeg_xmp(packet)).extracted == Extracted(unread=unread)
    both = jpeg(segment(0xE1, blocks.XMP_APP1 + packet), segment(0xEB, b"JP\0\0" + bytes(20) + b"jumb"))
    assert extract(both).extracted == NOTHING


def test_a_spoofed_namespace_counts_for_nothing() -> None:
    assert extract(jpeg_xmp(xmp(plus="http://evil.example/"))).extracted == NOTHING


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_a_packet_in_utf_16_is_read(encoding: str) -> None:
    assert extract(jpeg_xmp(xmp().decode().encode(encoding))).extracted.data_mining == (NO,)


def test_a_packet_in_latin_1_is_named() -> None:
    packet = xmp("<dc:rights>Café</dc:rights>").decode().encode("latin-1")
    assert extract(jpeg_xmp(packet)).extracted.unread == ("unreadable_xmp",)


@pytest.mark.parametrize(
    ("image", "unread"),
    [
        (jpeg(segment(0xE1, blocks.EXTENDED_APP1 + bytes(40))), "extended_xmp"),
        (jpeg_xmp(xmp("<xmpNote:HasExtendedXMP>AB</xmpNote:HasExtendedXMP>")), "extended_xmp"),
        (png(chunk(b"zTXt", b"Raw profile type xmp\0\0" + zlib.compress(b"\nxmp\n1\n00"))), "raw_profile"),
        (png(chunk(b"tEXt", b"Raw profile type APP1\0x")), "raw_profile"),
        (PLAIN["JPEG"] + xmp(), "stray_data_mining"),
        (PLAIN["JPEG"][:-2] + segment(0xE1, blocks.XMP_APP1 + xmp()), "stray_data_mining"),
        (png(png_text(xmp(f"<!--{'x' * 10_000_000}-->"), packed=True)), "unreadable_xmp"),
        (png(png_text(xmp(f"<!--{'x' * 10_000_000}-->"))), "unreadable_xmp"),
        (jpeg(*[segment(0xE1, blocks.XMP_APP1 + xmp(""))] * 40), "too_many_blocks"),
        (photoshop(*[resource(0x0424, xmp(""))] * 40), "too_many_blocks"),
        (jpeg(*[segment(0xED, blocks.PHOTOSHOP_APP13 + bytes(65_000))] * 70), "too_many_blocks"),
        (png(*[chunk(b"abCd", b"")] * 100_001), "too_many_blocks"),
        (png(chunk(b"eXIf", tiff(blocks.COPYRIGHT, b"x" * 65_537))), "large_exif"),
        (png(chunk(b"eXIf", tiff(blocks.COPYRIGHT, b"x") + bytes(1024 * 1024))), "large_exif"),
        (jpeg_xmp(xmp(f"<plus:DataMining>{'x' * 2001}</plus:DataMining>")), "large_xmp"),
        (png(png_text(xmp(" " * 1024 * 1024), packed=True)), "unreadable_xmp"),
    ],
)
def test_what_is_there_and_not_read_asks_for_a_person(image: bytes, unread: str) -> None:
    found = extract(image).extracted
    assert found.unread == (unread,)
    assert signals(found).unclear.keys() == embedded.EVERY_USE


@pytest.mark.parametrize("label", [b"c2pa.training-mining", b"cawg.training-mining"])
def test_an_assertion_on_training_asks_for_a_person_until_it_is_read(label: bytes) -> None:
    image = jpeg(segment(0xEB, b"JP\0\0" + bytes(20) + b"jumd" + label))
    found = signals(extract(image).extracted)
    assert set(found.unclear.values()) == {("training_mining",)}


INSTRUCTIONS = (2, 40)


@pytest.mark.parametrize(
    ("value", "declared", "text"),
    [
        (b"Not for machines", b"", "Not for machines"),
        ("Straße".encode("latin-1"), b"", "Straße"),
        ("Straße 猫".encode(), b"\x1b%G", "Straße 猫"),
        (b"\xff\xfe bad", b"\x1b%G", "\ufffd\ufffd bad"),
        (b" \0 ", b"", ""),
    ],
)
def test_special_instructions_are_read_as_the_block_is_written(
    value: bytes, declared: bytes, text: str
) -> None:
    image = iptc(data_set(1, 90, declared), data_set(*INSTRUCTIONS, value))
    assert extract(image).extracted == Extracted(special_instructions=text)


def test_instructions_of_xmp_and_iptc_are_both_told() -> None:
    packet = segment(0xE1, blocks.XMP_APP1 + xmp("<photoshop:Instructions>A</photoshop:Instructions>"))
    body = blocks.PHOTOSHOP_APP13 + resource(0x0404, data_set(*INSTRUCTIONS, b"B"))
    assert extract(jpeg(packet, segment(0xED, body))).extracted.special_instructions == "A\nB"


def test_a_block_that_spans_two_segments_is_one() -> None:
    whole = resource(0x0404, data_set(*INSTRUCTIONS, b"Not in Lent"))
    parts = [segment(0xED, blocks.PHOTOSHOP_APP13 + part) for part in (whole[:20], whole[20:])]
    assert extract(jpeg(*parts)).extracted == Extracted(special_instructions="Not in Lent")


@pytest.mark.parametrize(
    "image",
    [
        photoshop(b"9BIM" + bytes(8)),
        photoshop(b"8BIM\x04"),
        photoshop(b"8BIM\x04\x04\xff"),
        photoshop(resource(0x0404, b"x", size=0xFFFFFFFF)),
        iptc(b"\x1c\x02"),
        iptc(b"\x1d\x02\x28\x00\x01x"),
        iptc(struct.pack(">BBBH", 0x1C, 2, 40, 500) + b"short"),
        iptc(struct.pack(">BBBHI", 0x1C, 2, 40, 0x8004, 0xFFFFFFFF)),
        iptc(struct.pack(">BBBH", 0x1C, 2, 40, 0xFFFF)),
        png(chunk(b"eXIf", tiff(0x83BB, data_set(2, 25, b"word") * 10_001))),
        png(chunk(b"eXIf", tiff(0x83BB, data_set(2, 25, b"x" * 30_000) * 9))),
    ],
)
def test_damaged_iptc_and_more_of_it_than_is_read_is_named(image: bytes) -> None:
    assert extract(image).extracted.unread == ("unreadable_iptc",)


def test_the_long_form_of_a_data_set_is_read() -> None:
    value = b"n" * 40_000
    image = iptc(struct.pack(">BBBHI", 0x1C, 2, 40, 0x8004, len(value)) + value)
    assert extract(image).extracted.special_instructions == "n" * 1000


@pytest.mark.parametrize("order", ["<", ">"])
def test_exif_copyright_is_kept_and_decides_nothing(order: str) -> None:
    block = tiff(0x8298, b"(c) Acme\0", order=order)
    images = (
        jpeg(segment(0xE1, block)),
        png(chunk(b"eXIf", block.removeprefix(b"Exif\0\0"))),
        saved("WEBP", exif=block),
    )
    for image in images:
        found = extract(image)
        assert (found.extracted, found.notices) == (NOTHING, Notices(notice="(c) Acme"))


@pytest.mark.parametrize("block", [b"", b"II*\0", b"II*\0\xff\xff\xff\xff", b"MM\0*\0\0\0\x08\xff\xff"])
def test_damaged_exif_spoils_nothing(block: bytes) -> None:
    assert extract(jpeg(segment(0xE1, b"Exif\0\0" + block))).extracted == NOTHING


def test_lying_lengths_hide_no_prohibition() -> None:
    packet = segment(0xE1, blocks.XMP_APP1 + xmp())
    for size in (0, 1, 5, 300, 0xFFFF):
        image = jpeg(segment(0xE2, b"ICC", size=size), packet)
        assert signals(extract(image).extracted) != signals(NOTHING), size
    cut = jpeg_xmp(xmp())[:400]
    assert extract(cut).extracted.unread == ("unreadable_xmp",)


RIGHTS = xmp(
    "<dc:creator><rdf:Seq><rdf:li>J. Doe &amp; Søn</rdf:li></rdf:Seq></dc:creator>"
    '<dc:rights><rdf:Alt><rdf:li xml:lang="x-default">© Acme &lt;2026&gt;</rdf:li></rdf:Alt></dc:rights>'
    "<photoshop:Credit>Acme Images</photoshop:Credit><dc:description>Jane Roe at home</dc:description>"
    "<xmpRights:WebStatement>https://acme.example/r?a=1&amp;b=2</xmpRights:WebStatement>"
    '<xmpRights:UsageTerms><rdf:Alt><rdf:li xml:lang="x-default">By contract</rdf:li></rdf:Alt>'
    f"</xmpRights:UsageTerms><plus:DataMining>{YES}</plus:DataMining>"
)


@pytest.mark.parametrize("write", [jpeg_xmp, lambda packet: png(png_text(packet)), webp])
def test_notices_stay_with_the_training_picture_and_the_rest_does_not(write: Write) -> None:
    image = write(RIGHTS)
    kept = training_picture(image)
    assert extract(kept).notices == extract(image).notices
    assert extract(kept).notices == Notices(
        creators=("J. Doe & Søn",),
        credit="Acme Images",
        notice="© Acme <2026>",
        usage_terms="By contract",
        web_statement="https://acme.example/r?a=1&b=2",
        data_mining=YES,
    )
    assert b"Jane Roe" in image
    assert b"Jane Roe" not in kept


def test_a_picture_that_says_nothing_gets_no_packet() -> None:
    assert b"xmpmeta" not in training_picture(PLAIN["PNG"])


def test_iptc_gives_notices_where_xmp_is_silent() -> None:
    image = iptc(data_set(2, 80, b"Doe"), data_set(2, 110, b"Acme"), data_set(2, 116, b"(c)"))
    assert extract(image).notices == Notices(creators=("Doe",), credit="Acme", notice="(c)")


ANY = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=40) | st.just("&" * 9000)


@given(
    st.builds(
        Notices,
        creators=st.lists(ANY, max_size=20).map(tuple),
        credit=ANY,
        notice=ANY,
        usage_terms=ANY,
        web_statement=ANY,
        data_mining=ANY,
    )
)
@example(
    Notices(
        creators=("&" * 300,) * 9,
        **dict.fromkeys(("credit", "notice", "usage_terms", "web_statement", "data_mining"), "&" * 9000),
    )
)
def test_any_notices_make_a_packet_that_fits_and_can_be_read(given_notices: Notices) -> None:
    packet = notices.packet(given_notices)
    if packet is None:
        assert given_notices == notices.SILENT
        return
    assert len(packet) <= 65_504
    assert extract(jpeg_xmp(packet)).extracted.unread == ()


GOOD = (
    jpeg(
        segment(0xE1, blocks.XMP_APP1 + RIGHTS),
        segment(0xE1, tiff(0x8298, b"(c) Acme\0")),
        segment(0xED, blocks.PHOTOSHOP_APP13 + resource(0x0404, data_set(*INSTRUCTIONS, b"No"))),
    ),
    png(png_text(RIGHTS), png_text(xmp(), packed=True), chunk(b"eXIf", tiff(0x8298, b"(c) Acme\0")[6:])),
    saved("WEBP", xmp=RIGHTS, exif=tiff(0x8298, b"(c) Acme\0")),
)


@given(
    st.sampled_from(GOOD),
    st.lists(st.tuples(st.floats(0, 1), st.integers(0, 4), st.binary(max_size=4)), min_size=1, max_size=8),
)
def test_no_mutation_makes_it_fail(image: bytes, changes: list[tuple[float, int, bytes]]) -> None:
    raw = bytearray(image)
    for where, cut, new in changes:
        place = int(where * min(len(raw), 2500))
        raw[place : place + cut] = new
    found = extract(bytes(raw))
    assert embedded.from_json(embedded.to_json(found.extracted)) == found.extracted
    packet = notices.packet(found.notices)
    assert packet is None or len(packet) <= 65_504


@given(st.sampled_from(GOOD), st.floats(0, 1))
def test_no_truncation_makes_it_fail(image: bytes, part: float) -> None:
    extract(image[: int(len(image) * part)])


def test_pillow_and_we_find_the_same_packet() -> None:
    """A reader that is not ours, on files that are not written by these tests."""
    text = PngImagePlugin.PngInfo()
    text.add_itxt("XML:com.adobe.xmp", RIGHTS.decode(), zip=True)
    for image in (saved("JPEG", xmp=RIGHTS), saved("PNG", pnginfo=text), saved("WEBP", xmp=RIGHTS)):
        with Image.open(io.BytesIO(image)) as picture:
            assert blocks.find(image).xmp == [picture.info["xmp"]]
