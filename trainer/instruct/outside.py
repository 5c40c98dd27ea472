"""Fields and paths of records that we did not write: each is of its type and in its folder, or refused.

The surprising rule: nothing in a record is believed. A path stays inside the folder that was named, also when
links are followed, and files are read within budgets. What is refused is told with the file, the place in it
and what to do.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn

from infra.guarded import jpeg, json
from infra.guarded.refused import Refused
from tokenizer_service import images, orientation

EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp")
MAX_TEXT = 4096
"""Characters of a caption, question, answer or instruction."""
MAX_PATH = 1024
MAX_HEAD = 1024 * 1024
"""Bytes of a picture in which its size has to stand."""
APP1, EXIF = 0xE1, b"Exif\0\0"
Shares = tuple[float, float, float, float]
"""Left, top, right and bottom of a box."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a record stands, for what is said of it."""

    file: str
    member: str

    def refuse(self, rule: str, detail: str) -> NoReturn:
        raise Refused(self.file, self.member, rule, detail)

    def record(self, value: Any) -> Mapping[str, Any]:
        if not isinstance(value, dict):
            self.refuse("shape", f"{str(value)[:80]} is no object of named fields")
        return value

    def each(self, document: Mapping[str, Any], name: str) -> Iterator[tuple[Place, Mapping[str, Any]]]:
        """The records of a list, each with its place."""
        if not isinstance(document.get(name), list):
            self.refuse("field", f"{name} is {str(document.get(name))[:80]}, not a list; is it another file?")
        for number, record in enumerate(document[name]):
            place = Place(self.file, f"{self.member} {name}[{number}]".strip())
            yield place, place.record(record)

    def text(self, record: Mapping[str, Any], name: str) -> str:
        """In one line."""
        value = record.get(name)
        shown = " ".join(value.split()) if isinstance(value, str) else ""
        if not shown or len(shown) > MAX_TEXT:
            told = f"{name} is {str(value)[:80]!r}, not a text of 1 to {MAX_TEXT} characters"
            self.refuse("field", f"{told}; write it, or leave the record out")
        return shown

    def text_or_none(self, record: Mapping[str, Any], name: str) -> str | None:
        """In one line; None where it is not there, or blank."""
        value = record.get(name)
        blank = value is None or (isinstance(value, str) and not value.split())
        return None if blank else self.text(record, name)

    def number(self, record: Mapping[str, Any], name: str) -> int:
        value = record.get(name)
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            self.refuse("field", f"{name} is {str(value)[:80]!r}, not a whole number from 0 on")
        return value

    def shares(self, row: Mapping[str, Any]) -> Shares:
        """Of a box, of width and height of the picture as it was published."""
        ends = []
        for name in ("XMin", "YMin", "XMax", "YMax"):
            told = self.text(row, name)
            try:
                ends.append(float(told))
            except ValueError:
                self.refuse("field", f"{name} is {told[:80]!r}, not a number")
        x0, y0, x1, y1 = ends
        if not (0 <= x0 < x1 <= 1 and 0 <= y0 < y1 <= 1):
            self.refuse(
                "box", f"{x0}, {y0} to {x1}, {y1} is no part of the picture; write shares of its sides"
            )
        return x0, y0, x1, y1

    def size(self, path: Path) -> tuple[int, int]:
        """Width and height of a picture as it is shown, from its first bytes."""
        with path.open("rb") as opened:
            head = opened.read(MAX_HEAD)
        try:
            found = images.probe(head)
        except images.Undecodable as error:
            self.refuse("picture", f"{path}: {error}; fetch it again, or leave its records out")
        exifs = (head[start:end] for marker, start, end in jpeg.segments(head) if marker == APP1)
        turn = orientation.turn_of(next((one for one in exifs if one.startswith(EXIF)), b""))
        return (found.height, found.width) if orientation.lies(turn) else (found.width, found.height)

    def inside(self, folder: Path, name: str, extensions: Sequence[str] = EXTENSIONS) -> Path:
        """The file of that name, which is there."""
        path = self.path(folder, name, extensions)
        if not path.is_file():
            self.refuse("missing", f"{name!r} is no file in {folder}; fetch it, or leave the record out")
        return path

    def path(self, folder: Path, name: str, extensions: Sequence[str] = EXTENSIONS) -> Path:
        """Of that name, be it there or not: relative, and in the folder also when links are followed."""
        parts = PurePosixPath(name).parts
        odd = "\\" in name or not name.isprintable() or len(name) > MAX_PATH
        if odd or name.startswith("/") or not parts or ".." in parts:
            self.refuse("path", f"{name[:80]!r} is no path inside {folder}; write it relative, with /")
        if PurePosixPath(name).suffix.lower() not in extensions:
            self.refuse("extension", f"{name[:80]!r}: only {', '.join(extensions)} are read")
        path = folder / name
        if not path.resolve().is_relative_to(folder.resolve()):
            self.refuse("path", f"{name[:80]!r} is a link out of {folder}; put the file itself there")
        return path


class Sought:
    """Pictures of a set that may be there in part."""

    def __init__(self, place: Place, folder: Path) -> None:
        self._place, self._folder = place, folder
        self._num_named = self._num_there = 0

    def path(self, place: Place, name: str) -> Path | None:
        path = place.path(self._folder, name)
        self._num_named += 1
        if not path.is_file():
            return None
        self._num_there += 1
        return path

    def check(self) -> None:
        if not self._num_there:
            told = f"none of its {self._num_named} pictures lies in {self._folder}"
            self._place.refuse("missing", f"{told}; name the folder that has them")


def content(path: Path, most: int) -> bytes:
    """One more than the budget at most, which the reader then refuses."""
    if not path.is_file():
        raise ValueError(f"{path} is no file; give the file that was published")
    with path.open("rb") as opened:
        return opened.read(most + 1)


def document(path: Path, limits: json.Limits) -> Any:
    return json.loads(content(path, limits.max_bytes), file=str(path), limits=limits)


def listed(value: Any, place: Place) -> list[Any]:
    if not isinstance(value, list):
        place.refuse("shape", f"{str(value)[:80]} is no list")
    return value
