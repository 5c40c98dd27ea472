"""Deliveries made by hand: what the writer would refuse to write, listed as truly as the case wants it."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from infra.cli import run
from infra.corpus import Corpus
from infra.storage import Store
from pipeline import contract
from tokenizer_service import images

AS_OF = "2026-06-01T00:00:00Z"
BLOCK = 512
SHARD = "shards/acme-000000.tar"
MIME = {"jpg": "image/jpeg", "png": "image/png", "webp": "image/webp"}


def picture(seed: int = 0, side: int = 32) -> Image.Image:
    noise_HWC = np.random.default_rng(seed).integers(0, 255, (side, side, 3)).astype(np.uint8)
    return Image.fromarray(noise_HWC)


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    sink = io.BytesIO()
    image.save(sink, kind, **options)
    return sink.getvalue()


PNG = encoded(picture())


def size(image: bytes) -> dict[str, int]:
    """What the header says, as far as it can be read."""
    try:
        header = images.probe(image)
    except images.Undecodable:
        return {"width": 32, "height": 32}
    return {"width": header.width, "height": header.height}


def record(key: str, image: bytes = PNG, extension: str = "png", **changes: Any) -> dict[str, Any]:
    file = {
        "sha256": hashlib.sha256(image).hexdigest(),
        "bytes": len(image),
        "mime": MIME.get(extension, "image/png"),
        **size(image),
    }
    return {**contract.template()["asset"], "asset_id": key, "file": file, **changes}


def sample(key: str, image: bytes = PNG, extension: str = "png", **changes: Any) -> dict[str, bytes]:
    """The members of a good sample, but for ``changes`` of its record."""
    told = json.dumps(record(key, image, extension, **changes)).encode()
    return {f"{key}.{extension}": image, f"{key}.json": told}


def license_(**changes: Any) -> dict[str, Any]:
    return {**contract.template()["license"], **changes}


def revocation(**changes: Any) -> dict[str, Any]:
    return {**contract.template()["revocation"], **changes}


def lines(*documents: Mapping[str, Any]) -> bytes:
    return "".join(json.dumps(document) + "\n" for document in documents).encode()


def member(name: str, content: bytes = b"x", **attributes: Any) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for attribute, value in attributes.items():
        setattr(info, attribute, value)
    return info, content


def packed(*members: tuple[tarfile.TarInfo, bytes], form: int = tarfile.PAX_FORMAT) -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w", format=form) as archive:
        for info, content in members:
            archive.addfile(info, io.BytesIO(content))
    return sink.getvalue()


def tarred(files: Mapping[str, bytes]) -> bytes:
    return packed(*(member(name, content) for name, content in files.items()))


GOOD = tarred(sample("good"))


def with_good(*members: tuple[tarfile.TarInfo, bytes], form: int = tarfile.PAX_FORMAT) -> bytes:
    """A tar of one good sample and of members that are not."""
    good = (member(name, content) for name, content in sample("good").items())
    return packed(*good, *members, form=form)


def resealed(block: bytes) -> bytes:
    """The header with a checksum that fits."""
    total = sum(block[:148]) + sum(block[156:BLOCK]) + 8 * 32
    return block[:148] + b"%06o\0 " % total + block[156:BLOCK]


def patched(raw: bytes, at: int, data: bytes) -> bytes:
    """The tar with other bytes in its first header, whose checksum fits."""
    block = raw[:at] + data + raw[at + len(data) : BLOCK]
    return resealed(block) + raw[BLOCK:]


@dataclass(frozen=True, slots=True)
class Parcel:
    """A delivery's folder, written file by file."""

    folder: Path

    def put(self, path: str, data: bytes) -> None:
        place = self.folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)

    def listed(self, path: str, data: bytes, **changes: Any) -> dict[str, Any]:
        role = {"licenses.jsonl": "licenses", "revocations.jsonl": "revocations"}.get(path, "shard")
        digest = hashlib.sha256(data).hexdigest()
        return {"path": path, "sha256": digest, "bytes": len(data), "role": role, **changes}

    def tell(self, **changes: Any) -> None:
        """``delivery.json``: what lies in the folder, and the changes."""
        names = sorted(
            path.relative_to(self.folder).as_posix()
            for path in self.folder.rglob("*")
            if path.is_file() and path.name != "delivery.json"
        )
        files = [self.listed(name, (self.folder / name).read_bytes()) for name in names]
        base = {**contract.template()["delivery"], "counts": {}, "files": files}
        self.put("delivery.json", json.dumps({**base, **changes}).encode())

    def manifest(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / "delivery.json").read_bytes())
        return found

    def good(self, shard: bytes = GOOD, licenses: bytes | None = None, **changes: Any) -> None:
        self.put(SHARD, shard)
        self.put("licenses.jsonl", lines(license_()) if licenses is None else licenses)
        self.tell(**changes)


@dataclass(frozen=True, slots=True)
class Door:
    """``pardalis ingest`` on the inline engine, and what it left behind."""

    root: Path
    capsys: pytest.CaptureFixture[str]

    @property
    def corpus(self) -> Corpus:
        return Corpus(Store.at(self.root / "corpus"))

    def outside(self) -> dict[str, tuple[int, int]]:
        """Every file that is not in the corpus, with its size and time."""
        found = {}
        for at, _, names in os.walk(self.root):
            if Path(at).is_relative_to(self.root / "corpus"):
                continue
            for name in names:
                facts = Path(at, name).lstat()
                found[str(Path(at, name))] = (facts.st_size, facts.st_mtime_ns)
        return found

    def ingest(self, *deliveries: Path, options: Sequence[str] = ()) -> tuple[int, str]:
        """(exit code, what was said). Nothing may be written beside the corpus, and no bug be told."""
        before = self.outside()
        corpus = str(self.root / "corpus")
        tokens = ["ingest", *map(str, deliveries), "--corpus", corpus, "--as-of", AS_OF, "--engine", "inline"]
        tokens += options
        code, said = run(tokens), self.capsys.readouterr()
        told = said.out + said.err
        assert self.outside() == before
        assert "Traceback" not in told, told
        assert "a bug:" not in told, told
        assert all(character.isprintable() or character == "\n" for character in told), ascii(told)
        assert len(told) < 20_000, "a message is read by a person"
        return code, told
