"""A packet gives the properties asked for, in every form that RDF has, or is refused with a reason."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.guarded import xmp
from infra.guarded.refused import Refused

PLUS = "http://ns.useplus.org/ldf/xmp/1.0/"
DC = "http://purl.org/dc/elements/1.1/"
MINING, RIGHTS, CREATOR = f"{{{PLUS}}}DataMining", f"{{{DC}}}rights", f"{{{DC}}}creator"
WANTED = {MINING, RIGHTS, CREATOR}
NO = "http://ns.useplus.org/ldf/vocab/DMI-PROHIBITED"


def packet(inside: str = "", attributes: str = "", *, plus: str = PLUS, before: str = "") -> str:
    return (
        f'{before}<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
        '<x:xmpmeta xmlns:x="adobe:ns:meta/">'
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        f'<rdf:Description rdf:about="" xmlns:plus="{plus}" xmlns:dc="{DC}" {attributes}>{inside}'
        '</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="w"?>' + " " * 100
    )


def told(text: str, encoding: str = "utf-8") -> xmp.Properties:
    return xmp.read(text.encode(encoding), WANTED)


@pytest.mark.parametrize(
    "inside",
    [
        f"<plus:DataMining>{NO}</plus:DataMining>",
        f"<plus:DataMining>\n  {NO}\n</plus:DataMining>",
        f"<plus:DataMining><![CDATA[{NO}]]></plus:DataMining>",
        f"<plus:DataMining>{NO[:9]}<!-- a comment between -->{NO[9:]}</plus:DataMining>",
        f'<plus:DataMining rdf:resource="{NO}"/>',
        f'<plus:DataMining rdf:value="{NO}"/>',
        f"<plus:DataMining><rdf:Bag><rdf:li>{NO}</rdf:li></rdf:Bag></plus:DataMining>",
        f'<plus:DataMining><rdf:Seq><rdf:li rdf:resource="{NO}"/></rdf:Seq></plus:DataMining>',
        f"<plus:DataMining rdf:parseType='Resource'><rdf:value>{NO}</rdf:value><dc:x/></plus:DataMining>",
        f"<plus:DataMining><rdf:Description><rdf:value>{NO}</rdf:value></rdf:Description></plus:DataMining>",
    ],
)
def test_a_value_is_read_in_every_form_of_an_element(inside: str) -> None:
    assert told(packet(inside)) == {MINING: (NO,)}


def test_a_value_is_read_from_an_attribute_and_under_any_prefix() -> None:
    assert told(packet(attributes=f'plus:DataMining="{NO}"')) == {MINING: (NO,)}
    assert told(packet(f'<q:DataMining xmlns:q="{PLUS}">{NO}</q:DataMining>')) == {MINING: (NO,)}


def test_values_of_several_descriptions_are_all_told() -> None:
    inside = f"<plus:DataMining>{NO}</plus:DataMining></rdf:Description><rdf:Description plus:DataMining='x'>"
    text = packet(inside).replace("<rdf:RDF ", f'<rdf:RDF xmlns:plus="{PLUS}" ')
    assert told(text) == {MINING: (NO, "x")}


def test_arrays_keep_their_order_and_alternatives_begin_with_the_default() -> None:
    names = "<dc:creator><rdf:Seq><rdf:li>B</rdf:li><rdf:li>A</rdf:li></rdf:Seq></dc:creator>"
    rights = (
        '<dc:rights><rdf:Alt><rdf:li xml:lang="de">Rechte</rdf:li>'
        '<rdf:li xml:lang="x-default">Rights</rdf:li></rdf:Alt></dc:rights>'
    )
    assert told(packet(names + rights)) == {CREATOR: ("B", "A"), RIGHTS: ("Rights", "Rechte")}


@pytest.mark.parametrize("inside", ["", "<plus:DataMining/>", "<plus:DataMining>  </plus:DataMining>"])
def test_blank_values_and_an_empty_packet_say_nothing(inside: str) -> None:
    assert told(packet(inside)) == {}


def test_a_spoofed_namespace_counts_for_nothing() -> None:
    text = f"<plus:DataMining>{NO}</plus:DataMining>"
    for address in ("http://evil.example/ns/", PLUS.rstrip("/"), PLUS.upper(), PLUS + "x"):
        assert told(packet(text, plus=address)) == {}


def test_what_is_said_of_something_else_is_not_said_of_the_image() -> None:
    inside = f"<dc:source><rdf:Description plus:DataMining='{NO}'/></dc:source>"
    assert told(packet(inside)) == {}


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le"]
)
def test_every_encoding_of_unicode_is_read(encoding: str) -> None:
    inside = "<dc:rights>© Ünïcode 猫</dc:rights>"
    assert told(packet(inside), encoding) == {RIGHTS: ("© Ünïcode 猫",)}
    declared = packet(inside, before='<?xml version="1.0" encoding="iso-8859-1"?>')
    assert told(declared, encoding) == {RIGHTS: ("© Ünïcode 猫",)}


def test_nul_bytes_behind_the_packet_are_padding() -> None:
    assert xmp.read(packet(f"<plus:DataMining>{NO}</plus:DataMining>").encode() + b"\0" * 9, WANTED)


BOMB = (
    '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa">'
    + "".join(f'<!ENTITY {b} "{f"&{a};" * 10}">' for a, b in zip("abcdefgh", "bcdefghi", strict=True))
    + "]>"
)


@pytest.mark.parametrize(
    ("raw", "rule"),
    [
        (packet("<dc:rights>&i;</dc:rights>", before=BOMB).encode(), "entities"),
        (packet(before='<!DOCTYPE x SYSTEM "http://127.0.0.1/x.dtd">').encode(), "entities"),
        (packet(before="<!DOCTYPE x>").encode(), "entities"),
        (packet("&x;", before='<!DOCTYPE x [<!ENTITY x SYSTEM "file:///etc/passwd">]>').encode(), "entities"),
        (packet("<dc:rights>&unknown;</dc:rights>").encode(), "syntax"),
        (packet("<dc:a>" * 40 + "</dc:a>" * 40).encode(), "depth"),
        (packet("<dc:a/>" * 20_001).encode(), "nodes"),
        (packet("".join(f"<dc:a dc:b{i}='' dc:c{i}=''/>" for i in range(7000))).encode(), "nodes"),
        (packet("x" * 10_000_000).encode(), "size"),
        (packet("<dc:rights>café</dc:rights>").replace("\ufeff", "").encode("latin-1"), "encoding"),
        (packet().encode("utf-16-le")[:-1], "encoding"),
        (packet().encode()[:200], "syntax"),
        (b"", "syntax"),
        (b"\0" * 100, "syntax"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "root"),
        (packet("<plus:DataMining rdf:nodeID='a'/>").encode(), "shape"),
        (packet("<plus:DataMining><dc:x>1</dc:x></plus:DataMining>").encode(), "shape"),
    ],
)
def test_everything_else_is_refused_with_its_rule(raw: bytes, rule: str) -> None:
    with pytest.raises(Refused) as refused:
        xmp.read(raw, WANTED, file="a.jpg")
    assert (refused.value.file, refused.value.rule) == ("a.jpg", rule)


def test_a_bomb_and_a_text_of_many_parts_stay_small() -> None:
    parts = packet("<dc:rights>" + "a<!---->" * 100_000 + "</dc:rights>")
    tracemalloc.start()
    try:
        with pytest.raises(Refused):
            told(packet("<dc:rights>&i;</dc:rights>", before=BOMB))
        assert len(told(parts)[RIGHTS][0]) == 100_000
        assert tracemalloc.get_traced_memory()[1] < 64_000_000
    finally:
        tracemalloc.stop()


GOOD = packet(
    f"<plus:DataMining><rdf:Bag><rdf:li>{NO}</rdf:li></rdf:Bag></plus:DataMining>", "dc:rights='Acme'"
).encode()


@given(st.lists(st.tuples(st.integers(0, len(GOOD) - 1), st.binary(max_size=4)), min_size=1, max_size=6))
def test_a_mutated_packet_is_read_or_refused_and_nothing_else(changes: list[tuple[int, bytes]]) -> None:
    raw = bytearray(GOOD)
    for place, new in changes:
        raw[place : place + 2] = new
    try:
        properties = xmp.read(bytes(raw), WANTED)
    except Refused:
        return
    assert set(properties) <= WANTED
