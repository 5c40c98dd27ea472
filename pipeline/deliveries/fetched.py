"""What was found at the addresses of a batch: an image for a row, or why there is none.

The surprising rule: there are two kinds of no. A refusal stands, and asks for another delivery; what could
not be reached is tried again by the next ``pardalis ingest``, whose images lie in an archive of their own.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from infra.artifact import canonical
from infra.guarded import tar
from infra.guarded.https import Unreachable
from infra.guarded.refused import Refused

IMAGES = "fetched.tar"
MISSED = "missed.json"
"""Code, message and whether to try again, by row, where no image was found."""
MEMBER = tar.Rules(extensions=frozenset({"image"}))


@dataclass(frozen=True, slots=True, kw_only=True)
class Missed:
    """Why nothing came from an address."""

    code: str
    message: str
    again: bool
    """The next try may succeed."""

    @staticmethod
    def of(error: Refused | Unreachable) -> Missed:
        """A refusal stands; what could not be reached is tried again."""
        if isinstance(error, Refused):
            return Missed(code=error.rule, message=str(error), again=False)
        return Missed(code="unreachable", message=str(error), again=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """Of one batch, whose rows are numbered from 0."""

    archives: tuple[Callable[[], bytes], ...] = ()
    """One a try, each read when its turn comes, since it may take half a gigabyte."""
    missed: Mapping[int, Missed] = field(default_factory=dict)
    """What is missing after the last try."""

    def images(self) -> Iterator[tuple[int, bytes]]:
        """(row, image) of all that was found; one archive is in memory at a time."""
        for archive in self.archives:
            for name, image in tar.members(io.BytesIO(archive()), file=IMAGES, rules=MEMBER):
                yield int(name.partition(".")[0]), image


NOT_FOLLOWED = Answers()
"""Addresses that were left alone, as ``ingest --check`` does."""


def key(row: int) -> str:
    """Of its member."""
    return f"{row:06d}"


def files(images: Mapping[int, bytes], missed: Mapping[int, Missed]) -> dict[str, bytes]:
    """One try as files; the same answers are the same bytes."""
    import webdataset  # noqa: PLC0415  # it imports torch, and this module is read to explain an asset

    sink = io.BytesIO()
    with webdataset.TarWriter(sink, mtime=0, user="pardalis", group="pardalis", encoder=False) as archive:
        for number, image in sorted(images.items()):
            archive.write({"__key__": key(number), "image": image})
    told = {str(number): [why.code, why.message, why.again] for number, why in sorted(missed.items())}
    return {IMAGES: sink.getvalue(), MISSED: canonical(told)}


def read_missed(raw: bytes) -> dict[int, Missed]:
    return {
        int(number): Missed(code=code, message=message, again=again)
        for number, (code, message, again) in json.loads(raw).items()
    }
