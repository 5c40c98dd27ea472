"""What was taken back, as it was written: records of revocations, one JSON object a line.

The surprising rule: only what a record removes is looked for. ``restrict`` ends uses and leaves the asset,
and what is only alike by a fingerprint (``content_pdq``) is for a person to judge.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import unicodedata
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

KINDS = ("asset", "contributor", "license", "delivery", "model_release", "content_sha256", "content_pdq")
ACTIONS = ("remove", "restrict", "replace")
ABOUT_CONTENT = frozenset({"copyright_takedown", "privacy_request", "illegal_content"})
"""Reasons that concern the picture, whoever licenses it."""
ENDED = frozenset({"license_expired", "license_terminated"})
"""Reasons that end a grant; the same picture may be granted by others, or anew."""
LONGEST_LINE = 1 << 22
NAME = re.compile(r"[A-Za-z0-9_-]{1,128}")
HEX = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    kind: str
    provider: str
    """Empty for contents, which are taken back whoever delivered them."""
    value: str
    reason: str

    @property
    def name(self) -> str:
        """As it is told: ``contributor acme:who-left``."""
        return f"{self.kind} {self.provider}:{self.value}" if self.provider else f"{self.kind} {self.value}"

    @property
    def is_about_content(self) -> bool:
        return self.reason in ABOUT_CONTENT

    @property
    def follows_picture(self) -> bool:
        """Whether the same bytes under other ids of the provider go too."""
        return self.reason not in ENDED and self.kind in ("asset", "contributor", "model_release")

    @property
    def sha256(self) -> str:
        return hashlib.sha256(f"{self.kind}\0{self.provider}\0{self.value}".encode()).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Revocations:
    targets: tuple[Target, ...]
    unjudged: tuple[str, ...]
    """In words, what the file says and nobody looks for."""


def read(path: Path, as_of: datetime) -> Revocations:
    """Those effective at or before ``as_of``; ValueError names the line and the field of a wrong one."""
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise ValueError(
            f"--revocations {path}: {error.strerror}; give a file of revocations (JSONL)"
        ) from None
    targets: dict[tuple[str, str, str], Target] = {}
    unjudged: list[str] = []
    for number, line in enumerate(lines, start=1):
        if line.strip():
            told = _record(line, f"--revocations {path}, line {number}")
            later = told["effective"] > as_of
            name = told["id"]
            if later or told["action"] == "restrict" or told["kind"] == "content_pdq":
                why = "is not in force yet" if later else "ends uses and removes nothing"
                if told["kind"] == "content_pdq" and not later:
                    why = "names fingerprints, of which a person judges"
                unjudged.append(f"revocation {name} {why}")
                continue
            for target in told["targets"]:
                targets.setdefault((target.kind, target.provider, target.value), target)
    return Revocations(targets=tuple(targets.values()), unjudged=tuple(unjudged))


def _record(line: bytes, where: str) -> dict[str, Any]:
    if len(line) > LONGEST_LINE:
        raise ValueError(
            f"{where}: {len(line)} bytes are no revocation; name at most {LONGEST_LINE} bytes a line"
        )
    try:
        told = json.loads(line)
    except (ValueError, RecursionError):
        raise ValueError(f"{where}: no JSON; write one object a line") from None
    if not isinstance(told, dict) or told.get("schema") != "revocation/1.0":
        raise ValueError(f"{where}: schema is not 'revocation/1.0'; see `pardalis contract template`")
    kind, provider = told.get("target_type"), told.get("provider")
    if kind not in KINDS:
        raise ValueError(f"{where}: target_type is {kind!r}; write one of {', '.join(KINDS)}")
    if told.get("action") not in ACTIONS:
        raise ValueError(f"{where}: action is {told.get('action')!r}; write one of {', '.join(ACTIONS)}")
    if not isinstance(provider, str) or not provider:
        raise ValueError(f"{where}: provider is {provider!r}; name whose records these are")
    named = told.get("targets")
    if not isinstance(named, list) or not named or not all(isinstance(one, str) and one for one in named):
        raise ValueError(f"{where}: targets is {str(named)[:80]}; list one id or more")
    if kind.startswith("content_") and not all(map(HEX.fullmatch, named)):
        raise ValueError(f"{where}: targets holds what is no hash; write 64 lower-case hex digits")
    owner = "" if kind.startswith("content_") else provider
    reason = str(told.get("reason", ""))
    return {
        "id": str(told.get("revocation_id", "?")),
        "action": told["action"],
        "kind": kind,
        "effective": _instant(told.get("effective_at"), where),
        "targets": [
            Target(kind=kind, provider=owner, value=_named(kind, owner, one), reason=reason) for one in named
        ],
    }


def _instant(told: object, where: str) -> datetime:
    try:
        found = datetime.fromisoformat(str(told))
    except ValueError:
        raise ValueError(f"{where}: effective_at is {told!r}; write YYYY-MM-DDTHH:MM:SSZ") from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _named(kind: str, provider: str, value: str) -> str:
    return asset_id(value.removeprefix(f"{provider}:")) if kind == "asset" else value


def asset_id(name: str) -> str:
    """The name, or the id that a corpus derives of one that cannot be an id: base32 of its sha256."""
    if NAME.fullmatch(name):
        return name
    digest = hashlib.sha256(unicodedata.normalize("NFC", name).encode()).digest()
    return base64.b32encode(digest).decode().lower()[:26]
