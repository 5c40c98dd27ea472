"""Which delivered image a row means, where tables call images by path, by name or by stem.

The surprising rule: a whole path is a claim, and anything less is a guess. An image that one row names by its
path goes to no other, and one that two rows might mean goes to neither: pixels never come under the licence
of another row.
"""

from __future__ import annotations

import collections
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from infra.guarded import nfc
from pipeline.contract import Delivery, DeliveryFile

Names = Sequence[str]
"""What a row calls its image; empty ones name none."""
Files = Mapping[str, Sequence[DeliveryFile]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Images:
    """The delivered images, by what a row may call them."""

    files: tuple[DeliveryFile, ...]
    by_path: Files
    by_name: Files
    """By name too, and by stem."""
    by_folded: Files
    """By any of them, whatever its case: who exports a table from Windows never sees that it differs."""

    @staticmethod
    def of(delivery: Delivery) -> Images:
        files = tuple(file for file in delivery.files if file.role == "image")
        by_path: dict[str, list[DeliveryFile]] = {}
        by_name: dict[str, list[DeliveryFile]] = {}
        by_folded: dict[str, list[DeliveryFile]] = {}
        for file in files:
            path = nfc.normal(file.path)  # as cells are
            by_path.setdefault(path, []).append(file)
            for name in dict.fromkeys((path, PurePosixPath(path).name, PurePosixPath(path).stem)):
                by_name.setdefault(name, []).append(file)
                by_folded.setdefault(name.casefold(), []).append(file)
        return Images(files=files, by_path=by_path, by_name=by_name, by_folded=by_folded)

    def claimed(self, names: Names) -> list[DeliveryFile]:
        """By their whole paths."""
        return called(self.by_path, names)

    def guessed(self, names: Names) -> list[DeliveryFile]:
        """By name or stem, else by these in another case."""
        return called(self.by_name, names) or called(self.by_folded, [name.casefold() for name in names])


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """What all rows of a delivery call images, so that each can be answered."""

    images: Images
    claimed: frozenset[str]
    """Paths of the images that some row claims."""
    guesses: Mapping[str, int]
    """By path: how many rows might mean the image."""

    @staticmethod
    def of(images: Images, rows: Iterable[Names]) -> Claims:
        claimed = set[str]()
        guesses = collections.Counter[str]()
        for names in rows:
            if found := images.claimed(names):
                claimed.update(file.path for file in found)
            else:
                guesses.update(file.path for file in images.guessed(names))
        return Claims(images=images, claimed=frozenset(claimed), guesses=guesses)

    def meant(self, names: Names) -> tuple[list[DeliveryFile], str]:
        """The images that the row may mean, and why it cannot have one; empty where nothing is in doubt."""
        if found := self.images.claimed(names):
            return found, "" if len(found) == 1 else ambiguous(found)
        found = [file for file in self.images.guessed(names) if file.path not in self.claimed]
        if len(found) > 1:
            return found, ambiguous(found)
        if found and self.guesses[found[0].path] > 1:
            return found, f"{found[0].path} might be another row's as well; name the path in each"
        return found, ""


def ambiguous(found: Sequence[DeliveryFile]) -> str:
    return f"its image is {found[0].path} or {found[1].path}; name the path"


def called(known: Files, names: Names) -> list[DeliveryFile]:
    """The files of these names, each once."""
    return list({file.path: file for name in names if name for file in known.get(name, ())}.values())
