"""The images artifact: WebDataset tars, sorted, with time 0, so that the same images are the same bytes.

``KEY.jpg`` (training size), ``KEY.json`` (rights and provenance of that image), ``KEY.txt`` (caption):
readable by webdataset, Ray Data and open_clip as it is.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable

from infra.artifact import canonical

NOBODY = "pardalis"


def write(samples: Iterable[tuple[str, bytes, dict[str, object], str]]) -> bytes:
    """Samples of (key, JPEG, facts, caption)."""
    import webdataset  # noqa: PLC0415  # it imports torch, which settings are read without

    sink = io.BytesIO()
    with webdataset.TarWriter(sink, mtime=0, user=NOBODY, group=NOBODY, encoder=False) as tar:
        for key, jpeg, facts, caption in sorted(samples, key=lambda sample: sample[0]):
            tar.write({"__key__": key, "jpg": jpeg, "json": canonical(facts), "txt": caption.encode()})
    return sink.getvalue()


def images(data: bytes) -> dict[str, bytes]:
    """JPEG by key, from a tar that we wrote and whose sha256 was checked."""
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as tar:
        members = [member for member in tar.getmembers() if member.name.endswith(".jpg")]
        found = {member.name.removesuffix(".jpg"): tar.extractfile(member) for member in members}
        return {key: file.read() for key, file in found.items() if file is not None}
