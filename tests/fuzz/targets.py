"""The guarded readers, each as a function of bytes that returns or raises a refusal that is documented."""

from __future__ import annotations

import functools
import io
import itertools
import zlib
from typing import Any

from pydantic import ValidationError

from infra.guarded import csv, json, svg, tar, xmp
from infra.guarded.address import check_uri
from infra.guarded.refused import Refused
from pipeline import contract, description, extract
from pipeline.contract import Asset, License, Revocation, describe
from pipeline.deliveries import listing
from tests.fuzz import forms
from tests.fuzz.target import Target
from tests.hostile import made, pictures
from tests.pipeline import agencies, metadata
from tokenizer_service import images


def sealed_tar(raw: bytes) -> bytes:
    """A tar whose every block that looks like a header has a checksum that fits."""
    blocks = [raw[at : at + made.BLOCK] for at in range(0, len(raw), made.BLOCK)]
    looks = (len(block) == made.BLOCK and b"ustar" in block for block in blocks)
    return b"".join(made.resealed(b) if like else b for b, like in zip(blocks, looks, strict=True))


def sealed_png(raw: bytes) -> bytes:
    """A PNG whose chunks have checksums that fit, as far as their lengths can be followed; others as is."""
    out, at = bytearray(raw), len(pictures.MAGIC)
    if not raw.startswith(pictures.MAGIC):
        return raw
    while (end := at + 8 + int.from_bytes(raw[at : at + 4], "big")) + 4 <= len(raw):
        out[end : end + 4] = zlib.crc32(raw[at + 4 : end]).to_bytes(4, "big")
        at = end + 4
    return bytes(out)


def tar_members(raw: bytes) -> int:
    return sum(len(content) for _, content in tar.members(io.BytesIO(raw), file="fuzz.tar"))


def document(raw: bytes) -> object:
    return json.loads(raw, file="fuzz.json")


def json_lines(raw: bytes) -> object:
    return list(json.lines(raw, file="fuzz.jsonl"))


def record(kind: Any, raw: bytes) -> str:
    """Read, judged, and written back; what is wrong is told in words that can be printed."""
    try:
        text: str = kind.model_validate(json.loads(raw, file="fuzz.json")).model_dump_json(by_alias=True)
    except ValidationError as error:
        told = describe(error, "fuzz.json")
        if not all(char.isprintable() or char == "\n" for char in told):
            raise AssertionError(f"a message that cannot be printed: {told!a}") from error
        raise Refused("fuzz.json", "", "record", told) from None
    kind.model_validate_json(text)
    return text


def decoded(raw: bytes) -> object:
    header = images.probe(raw)
    if header.width * header.height > 4_000_000:  # honest work, and the limits have tests of their own
        return header
    return images.decode(raw).shape, images.decode(raw, at_least=8).shape


def delivered(raw: bytes) -> object:
    return listing.read_delivery(raw, "delivery.json")


def table(raw: bytes) -> object:
    return list(csv.rows(raw, file="fuzz.csv"))


def drawing(raw: bytes) -> object:
    return svg.read(io.BytesIO(raw), file="fuzz.svg")


def packet(raw: bytes) -> object:
    return xmp.read(raw, extract.WANTED)


def says(raw: bytes) -> object:
    """What a file says of itself. Neither reader raises, whatever the bytes."""
    return extract.extract(raw, [raw]), description.record(raw, [raw])


def address(raw: bytes) -> object:
    return check_uri(raw.decode("utf-8", "replace"), {"images.example"})


def drawings() -> list[bytes]:
    start = (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:cc="http://web.resource.org/cc/" '
        'xmlns:dc="http://purl.org/dc/elements/1.1/" '
        'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><metadata><rdf:RDF><cc:Work rdf:about="">'
    )
    inside = (
        "<dc:title>A frog</dc:title><dc:subject><rdf:Bag><rdf:li>green</rdf:li></rdf:Bag></dc:subject>"
        '<cc:license rdf:resource="http://web.resource.org/cc/PublicDomain"/>'
    )
    whole = f"{start}{inside}</cc:Work></rdf:RDF></metadata><path d='M0 0'/></svg>"
    return [whole.encode(), b'<!DOCTYPE svg [<!ENTITY a "b">]>' + whole.encode()]


def encoded(document_: object) -> bytes:
    return made.lines(document_)  # type: ignore[arg-type]  # any mapping


def all_pictures() -> list[bytes]:
    found = (image for image, *_ in itertools.chain(pictures.odd().values(), pictures.broken().values()))
    kinds = [made.encoded(made.picture(1), kind) for kind in ("PNG", "JPEG", "WEBP")]
    return [*kinds, *(image for image in found if 8 < len(image) < 20_000)]


def files() -> list[bytes]:
    """Images with metadata of every kind, in every kind of file."""
    return [
        metadata.jpeg_xmp(metadata.xmp()),
        metadata.iptc(metadata.data_set(2, 40, b"call first")),
        metadata.png(metadata.png_text(metadata.xmp()), metadata.png_text(metadata.xmp(), packed=True)),
        metadata.webp(metadata.xmp()),
        metadata.jpeg(metadata.segment(0xE1, metadata.tiff(0x8298, b"(c) J. Doe\0"))),
    ]


def tars() -> list[bytes]:
    long_names = made.packed(made.member("k" * 120 + ".png", b"x" * 600), made.member("a.json", b"{}"))
    return [made.GOOD, long_names, made.packed(made.member("a.jpg", b"x", pax_headers={"comment": "y"}))]


@functools.cache
def targets() -> tuple[Target, ...]:
    asset, license_, revocation = made.record("good"), made.license_(), made.revocation()
    delivery = contract.template()["delivery"]
    texts = [encoded(one) for one in (asset, license_, revocation, delivery)]
    kinds = {"asset": (Asset, texts[0]), "license": (License, texts[1]), "revocation": (Revocation, texts[2])}
    records = (
        Target(name=name, read=functools.partial(record, kind), refusals=(Refused,), seeds=[text])
        for name, (kind, text) in kinds.items()
    )
    return (
        Target(name="tar", read=tar_members, refusals=(Refused,), seeds=tars(), seal=sealed_tar),
        Target(name="json", read=document, refusals=(Refused,), seeds=texts),
        Target(name="lines", read=json_lines, refusals=(Refused,), seeds=[b"".join(texts)]),
        Target(
            name="image", read=decoded, refusals=(images.Undecodable,), seeds=all_pictures(), seal=sealed_png
        ),
        Target(name="delivery", read=delivered, refusals=(ValueError,), seeds=[texts[3]]),
        Target(
            name="table", read=table, refusals=(Refused,), seeds=[agencies.table(agencies.CONTRIBUTOR_ROW)]
        ),
        Target(name="svg", read=drawing, refusals=(Refused,), seeds=drawings()),
        Target(name="xmp", read=packet, refusals=(Refused,), seeds=[metadata.xmp()]),
        Target(name="file", read=says, refusals=(), seeds=files()),
        Target(
            name="address",
            read=address,
            refusals=(Refused,),
            seeds=[b"https://images.example:443/a/b.jpg?c=d"],
        ),
        *forms.targets(),
        *records,
    )
