"""What a drawing says of itself is read in every form that it may be said in, or refused with a reason."""

from __future__ import annotations

import io
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.guarded import svg
from infra.guarded.refused import Refused

RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
DC = "http://purl.org/dc/elements/1.1/"
OLD, NEW = "http://web.resource.org/cc/", "http://creativecommons.org/ns#"
FREE = "http://web.resource.org/cc/PublicDomain"
W3C = '"-//W3C//DTD SVG 1.0//EN" "http://www.w3.org/TR/2001/REC-SVG-20010904/DTD/svg10.dtd"'
LICENSE = f'<cc:license rdf:resource="{FREE}"/>'


def drawing(inside: str = LICENSE, *, about: str = ' rdf:about=""', cc: str = OLD, before: str = "") -> str:
    return (
        f'{before}<svg xmlns="http://www.w3.org/2000/svg"><metadata>'
        f'<rdf:RDF xmlns:rdf="{RDF}" xmlns:dc="{DC}" xmlns:cc="{cc}"><cc:Work{about}>{inside}</cc:Work>'
        f'<cc:License rdf:about="{FREE}"><cc:license rdf:resource="of the licence"/></cc:License>'
        '</rdf:RDF></metadata><path d="M 0 0"/></svg>'
    )


def read(text: str | bytes, limits: svg.Limits = svg.DRAWING) -> svg.Metadata:
    raw = text.encode() if isinstance(text, str) else text
    return svg.read(io.BytesIO(raw), file="a.svg", limits=limits)


def test_everything_is_read_as_inkscape_writes_it() -> None:
    agent = "<cc:Agent><dc:title>Ann  B</dc:title></cc:Agent>"
    said = read(
        drawing(
            "<dc:title> A red\n apple </dc:title><dc:description/><dc:date>6/24/2005</dc:date>"
            "<dc:subject><rdf:Bag><rdf:li>fruit</rdf:li><rdf:li></rdf:li><rdf:li>red</rdf:li></rdf:Bag>"
            f"</dc:subject><dc:creator>{agent}</dc:creator><dc:rights>{agent}</dc:rights>"
            f"<dc:publisher><cc:Agent rdf:about='http://x/'><dc:title>X</dc:title></cc:Agent></dc:publisher>"
            + LICENSE
        )
    )
    assert said == svg.Metadata(
        titles=("A red\n apple",),
        keywords=("fruit", "red"),
        creators=("Ann  B",),
        rights=("Ann  B",),
        licenses=(FREE,),
        dates=("6/24/2005",),
    )


@pytest.mark.parametrize("cc", [OLD, NEW])
@pytest.mark.parametrize(
    "inside",
    [
        LICENSE,
        f"<cc:license>\n{FREE}<!-- --> </cc:license>",
        f'<cc:license><cc:License rdf:about="{FREE}"><cc:permits/></cc:License></cc:license>',
    ],
)
def test_a_licence_is_read_in_every_form_of_an_element_and_in_both_namespaces(inside: str, cc: str) -> None:
    assert read(drawing(inside, cc=cc)).licenses == (FREE,)


@pytest.mark.parametrize("about", ["", ' rdf:about=""'])
def test_an_attribute_says_as_much_as_an_element(about: str) -> None:
    said = read(drawing("", about=f'{about} cc:license="{FREE}" dc:title="Apple"'))
    assert (said.licenses, said.titles) == ((FREE,), ("Apple",))
    described = drawing().replace("cc:Work", "rdf:Description")
    assert read(described).licenses == (FREE,)


@pytest.mark.parametrize(
    "text",
    [
        drawing('<cc:license rdf:resource=""/>'),
        drawing("<cc:license> </cc:license>"),
        drawing("<dc:license>PublicDomain</dc:license>"),
        drawing(about=' rdf:about="http://example.org/another"'),
        drawing(cc="http://web.resource.org/CC/"),
        drawing(cc="http://evil.example/cc/"),
        drawing().replace("metadata>", "desc>"),
        drawing().replace("<metadata>", "<g><metadata>").replace("</metadata>", "</metadata></g>"),
        drawing().replace("<metadata>", '<metadata xmlns="http://evil.example/">'),
        "<svg/>",
    ],
)
def test_a_blank_licence_another_works_and_a_namespace_of_ones_own_are_none(text: str) -> None:
    assert read(text).licenses == ()


def test_two_licences_are_both_told() -> None:
    assert read(drawing(LICENSE + '<cc:license rdf:resource="x"/>')).licenses == (FREE, "x")


@pytest.mark.parametrize(
    "before",
    [
        f"<!DOCTYPE svg PUBLIC {W3C}>",
        f"<!DOCTYPE svg PUBLIC {W3C} [\n]>",
        '<!DOCTYPE svg SYSTEM "file:///etc/passwd">',
        '<!DOCTYPE svg [<!ATTLIST svg xmlns:xlink CDATA #FIXED "http://www.w3.org/1999/xlink">]>',
        "<?xml version='1.0' encoding='iso-8859-1'?>",
    ],
)
def test_a_document_type_may_stand_and_names_nothing_that_is_fetched(before: str) -> None:
    assert read(drawing(before=before)).licenses == (FREE,)


def test_a_drawing_of_before_the_namespace_is_read() -> None:
    assert read(drawing().replace(' xmlns="http://www.w3.org/2000/svg"', "")).licenses == (FREE,)


def test_an_encoding_is_the_declared_one() -> None:
    text = drawing("<dc:title>Möwe</dc:title>", before="<?xml version='1.0' encoding='iso-8859-1'?>")
    assert read(text.encode("latin-1")).titles == ("Möwe",)
    assert read(drawing("<dc:title>Möwe</dc:title>").encode("utf-16")).titles == ("Möwe",)


class Counted(io.BytesIO):
    """Counts what is read of it."""

    reads = 0

    def read(self, size: int | None = -1) -> bytes:
        self.reads += 1
        return super().read(size)


def test_reading_ends_where_the_metadata_end() -> None:
    text = drawing().replace("</svg>", "")
    assert read(text + "<path d='not closed").licenses == (FREE,)
    assert read(text + "<&>" + "\0" * 100_000).licenses == (FREE,)
    second = drawing('<cc:license rdf:resource="later"/>').partition("<metadata>")[2]
    assert read(text + "<metadata>" + second).licenses == (FREE,)
    long = Counted(text.encode() + b"<path d='" + b"0" * 1_000_000)
    assert svg.read(long).licenses == (FREE,)
    assert long.reads == 1


def test_the_budgets_are_of_what_stands_before_the_end_of_the_metadata() -> None:
    before = "<svg>" + "<g>" * 19 + "</g>" * 19 + "<g a='' b=''/>" * 320
    text = before + drawing().partition('svg">')[2].replace("</svg>", "<g>" * 100_000)
    assert read(text, LOW).licenses == (FREE,)
    late = "<svg><path d='" + "0" * 90_000 + "'/>" + drawing().partition('svg">')[2]
    assert read(late, LOW).licenses == (FREE,)


def test_one_byte_of_the_metadata_behind_the_budget_is_too_much() -> None:
    text = "<svg><path d='" + "0" * 50_000 + "'/>" + drawing().partition('svg">')[2]
    end = text.index("</metadata>") + len("</metadata>")
    assert read(text, svg.Limits(max_bytes=end)).licenses == (FREE,)
    with pytest.raises(Refused, match="refused by rule size: its metadata do not end in the"):
        read(text, svg.Limits(max_bytes=end - 1))


def test_an_attribute_of_megabytes_is_read_in_few_chunks() -> None:
    """Else expat looks through it once for each: 8 MB took 6 s."""
    text = "<svg><path d='" + "0" * 8_000_000 + "'/>" + drawing().partition('svg">')[2]
    late = Counted(text.encode())
    assert svg.read(late).licenses == (FREE,)
    assert late.reads <= 11


LOW = svg.Limits(max_bytes=100_000, max_depth=20, max_nodes=1000)
BOMB = (
    '<!DOCTYPE svg [<!ENTITY a "aaaaaaaaaa">'
    + "".join(f'<!ENTITY {b} "{f"&{a};" * 10}">' for a, b in zip("abcdefgh", "bcdefghi", strict=True))
    + "]>"
)
TITLE = "<dc:title>&i;</dc:title>"


@pytest.mark.parametrize(
    ("raw", "rule"),
    [
        (drawing(TITLE, before=BOMB), "entities"),
        (drawing(before='<!DOCTYPE svg [<!ENTITY unused "x">]>'), "entities"),
        (drawing(TITLE, before='<!DOCTYPE svg [<!ENTITY i SYSTEM "file:///etc/passwd">]>'), "entities"),
        (drawing(TITLE, before='<!DOCTYPE svg [<!ENTITY % p SYSTEM "http://127.0.0.1/x"> %p;]>'), "entities"),
        (drawing(TITLE), "syntax"),
        (drawing(TITLE, before=f"<!DOCTYPE svg PUBLIC {W3C}>"), "syntax"),
        (drawing()[:400], "syntax"),
        ("", "syntax"),
        (b"\x89PNG\r\n\x1a\n", "syntax"),
        (drawing("é").encode("latin-1"), "syntax"),
        (drawing(before="<?xml version='1.0' encoding='shift_jis'?>"), "encoding"),
        (drawing(before="<?xml version='1.0' encoding='rot13'?>"), "encoding"),
        (drawing(before="<?xml version='1.0' encoding='nonesuch'?>"), "encoding"),
        ("<html/>", "root"),
        (drawing("<dc:a>" * 20 + "</dc:a>" * 20), "depth"),
        ("<svg>" + "<g>" * 20, "depth"),
        (drawing("<dc:a/>" * 1000), "nodes"),
        ("<svg>" + "<g a='' b=''/>" * 334, "nodes"),
        ("<svg><path d='" + "0" * 100_000, "size"),
    ],
)
def test_everything_else_is_refused_with_its_rule(raw: str | bytes, rule: str) -> None:
    with pytest.raises(Refused) as refused:
        read(raw, LOW)
    assert (refused.value.file, refused.value.rule) == ("a.svg", rule)


def test_a_bomb_stays_small() -> None:
    tracemalloc.start()
    try:
        with pytest.raises(Refused):
            read(drawing(TITLE, before=BOMB))
        assert tracemalloc.get_traced_memory()[1] < 8_000_000
    finally:
        tracemalloc.stop()


GOOD = drawing(f"<dc:title>A</dc:title>{LICENSE}", before="<?xml version='1.0' encoding='utf-8'?>").encode()


@given(st.lists(st.tuples(st.integers(0, len(GOOD) - 1), st.binary(max_size=4)), min_size=1, max_size=6))
def test_a_mutated_drawing_is_read_or_refused_and_nothing_else(changes: list[tuple[int, bytes]]) -> None:
    raw = bytearray(GOOD)
    for place, new in changes:
        raw[place : place + 2] = new
    try:
        read(bytes(raw))
    except Refused:
        return
