"""Weights that lie in an installed package: where they are, whether they are those, and how to get them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tokenizer_service.features import installed_file


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    package: str
    """The distribution."""
    files: Mapping[str, str]
    """sha256 by path in it."""
    get: str
    """The command that installs it."""

    def paths(self) -> list[Path]:
        """The files, checked. Raises ModuleNotFoundError without the package, ValueError for other bytes."""
        return [installed_file(self.package, path, sha256=sha256) for path, sha256 in self.files.items()]

    @property
    def identity(self) -> str:
        return hashlib.sha256("".join(self.files.values()).encode()).hexdigest()

    def missing(self) -> str | None:
        """Why they cannot be used and how to get them, in a line; None if they can."""
        try:
            self.paths()
        except ModuleNotFoundError:
            return f"{self.package} is not installed; {self.get}"
        except (ValueError, FileNotFoundError) as error:
            return f"{error}; {self.get}"
        return None
