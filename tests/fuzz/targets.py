"""The guarded readers, each as a function of bytes that returns or raises a refusal that is documented."""

from __future__ import annotations

import functools
import io
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from infra.guarded import json, tar
from infra.guarded.refused import Refused
from pipeline.contract import Asset, License, Revocation, describe
from pipeline.deliveries import manifest
from tests.hostile import made, pictures
from tokenizer_service import images


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    name: str
    read: Callable[[bytes], object]
    refusals: tuple[type[Exception], ...]
    seeds: Sequence[bytes]
    headers: bool = False
    """Tar headers are sealed again at times, so that mutations get past their checksums."""


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
    return manifest.read_delivery(raw, "delivery.json")


def encoded(document_: object) -> bytes:
    return made.lines(document_)  # type: ignore[arg-type]  # any mapping


def all_pictures() -> list[bytes]:
    found = (image for image, *_ in itertools.chain(pictures.odd().values(), pictures.broken().values()))
    kinds = [made.encoded(made.picture(1), kind) for kind in ("PNG", "JPEG", "WEBP")]
    return [*kinds, *(image for image in found if 8 < len(image) < 20_000)]


def tars() -> list[bytes]:
    long_names = made.packed(made.member("k" * 120 + ".png", b"x" * 600), made.member("a.json", b"{}"))
    return [made.GOOD, long_names, made.packed(made.member("a.jpg", b"x", pax_headers={"comment": "y"}))]


@functools.cache
def targets() -> tuple[Target, ...]:
    asset, license_, revocation = made.record("good"), made.license_(), made.revocation()
    delivery = made.contract.template()["delivery"]
    texts = [encoded(one) for one in (asset, license_, revocation, delivery)]
    kinds = {"asset": (Asset, texts[0]), "license": (License, texts[1]), "revocation": (Revocation, texts[2])}
    records = (
        Target(name=name, read=functools.partial(record, kind), refusals=(Refused,), seeds=[text])
        for name, (kind, text) in kinds.items()
    )
    return (
        Target(name="tar", read=tar_members, refusals=(Refused,), seeds=tars(), headers=True),
        Target(name="json", read=document, refusals=(Refused,), seeds=texts),
        Target(name="lines", read=json_lines, refusals=(Refused,), seeds=[b"".join(texts)]),
        Target(name="image", read=decoded, refusals=(images.Undecodable,), seeds=all_pictures()),
        Target(name="delivery", read=delivered, refusals=(ValueError,), seeds=[texts[3]]),
        *records,
    )
