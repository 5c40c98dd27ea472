"""Pictures as files: what callers brought, and what was drawn for them, the latest of each caller.

The surprising rule: a name is looked up before it is joined to a path, and all names are ours. What a caller
calls a picture is nowhere.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from infra.serving.callers import Caller
from infra.serving.refusal import Refusal
from infra.storage import LocalStore

KEPT = 256
"""Pictures of a caller: 60 MB at 256 px. A drawing brings up to nine."""


@dataclass(slots=True, kw_only=True)
class Album:
    """Asked by the event loop's thread alone."""

    folder: Path
    uids: dict[Path, frozenset[str]] = field(default_factory=dict)
    """Of the assets that a picture was taken from, or that it was made from in however many steps: what is
    revoked since is shown no more."""
    _kept: dict[Caller, OrderedDict[str, Path]] = field(default_factory=dict)

    def bring(self, caller: Caller, kind: str, png: bytes) -> str:
        """Keep what was brought; its name is of its content."""
        name = f"{kind}-{hashlib.sha256(png).hexdigest()[:16]}.png"
        self.keep(caller, name, png)
        return name

    def take(self, caller: Caller, uid: str, png: bytes) -> str:
        """Keep an asset's picture. It has another name than the same picture, brought, would have."""
        name = self.bring(caller, "asset", png)
        self.uids[self.path(caller, name)] = frozenset({uid})
        return name

    def of(self, paths: Iterable[Path]) -> frozenset[str]:
        """The assets that any of the pictures shows something of."""
        return frozenset().union(*(self.uids.get(path, frozenset()) for path in paths))

    def keep(self, caller: Caller, name: str, png: bytes, *, uids: frozenset[str] = frozenset()) -> None:
        """``uids``: of the assets that it was made from.

        Whole or not at all: whoever reads a picture that another takes the place of has the old one.
        """
        folder = self.folder / (caller.hex() or "anyone")
        LocalStore(str(folder)).write(name, png)
        mine = self._kept.setdefault(caller, OrderedDict())
        mine[name] = folder / name
        mine.move_to_end(name)
        self.uids.pop(folder / name, None)
        if uids:
            self.uids[folder / name] = uids
        while len(mine) > KEPT:
            _, oldest = mine.popitem(last=False)
            oldest.unlink()
            self.uids.pop(oldest, None)

    def path(self, caller: Caller, name: str) -> Path:
        """404 for what is not this caller's, or not kept any more."""
        mine = self._kept.get(caller, OrderedDict())
        if name not in mine:
            fix = f"bring it again; the latest {KEPT} pictures are kept while the service runs"
            raise Refusal(404, "no such picture", value=name, fix=fix)
        mine.move_to_end(name)
        return mine[name]
