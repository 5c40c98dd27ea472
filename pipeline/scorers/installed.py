"""Weights that lie in an installed package: where they are, whether they are those, whether the code that
reads them is there, and how to get both.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline import numerics


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    package: str
    """The distribution."""
    files: Mapping[str, str]
    """sha256 by path in it."""
    modules: tuple[str, ...]
    """What is imported to use them."""
    libraries: tuple[str, ...]
    """Distributions of the code that computes with them: scores depend on their versions."""
    get: str
    """The command that installs all of it."""

    def paths(self) -> list[Path]:
        """The files, checked. Raises ModuleNotFoundError without the package, ValueError for other bytes."""
        from tokenizer_service.features import installed_file  # noqa: PLC0415  # torch stands beside it

        return [installed_file(self.package, path, sha256=sha256) for path, sha256 in self.files.items()]

    @property
    def identity(self) -> str:
        return hashlib.sha256("".join(self.files.values()).encode()).hexdigest()

    @property
    def versions(self) -> Mapping[str, str | None]:
        """Of the libraries; None for one that is not here, where a key is only told and nothing is built."""
        return {name: version(name) for name in self.libraries}

    def missing(self) -> str | None:
        """Why they cannot be used and how to get them, in a line; None if they can."""
        try:
            self.paths()
        except ModuleNotFoundError:
            return f"{self.package} is not installed; {self.get}"
        except (ValueError, FileNotFoundError) as error:
            return f"{error}; {self.get}"
        if absent := [name for name in self.modules if importlib.util.find_spec(name) is None]:
            return f"{self.package} needs {', '.join(absent)}, not installed here; {self.get}"
        return None


def version(distribution: str) -> str | None:
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        return numerics.public(importlib.metadata.version(distribution))
    return None
