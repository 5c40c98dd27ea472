"""The command ``pardalis verify``.

Exit codes: 0 nothing was found, 2 the user's mistake, 3 a leak was found, a file could not be read, a log is
broken, or whole targets had no evidence.

The surprising rule: 0 says nothing of what cannot be looked for, since the corpus held none that was theirs
alone; no other run could say more, and the last line and ``looked_for_all`` tell it. A contributor, licence,
delivery or release whose assets nobody gathered is no such thing: whatever is left of them would not be
found, and who reads the code alone would take that for the proof.
"""

from __future__ import annotations

import json as json_lines
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipeline.verify import buckets, chain, collect, evidence, files, judging, revocations
from pipeline.verify.evidence import Item
from pipeline.verify.files import File, Root
from pipeline.verify.judging import Verdict
from pipeline.verify.revocations import Revocations, Target

REFUSED = 3
SHOWN = 50
"""Leaks and files that are told on a terminal; ``--json`` tells all."""
WITHOUT_EVIDENCE = (
    "captions and titles",
    "pictures",
    "image codes",
    "text ids",
    "vectors",
    "ids of the index",
    "perceptual hashes",
    "assets that are named by their contributor, licence, delivery, release or content",
)
OF_MANY = frozenset({"contributor", "license", "delivery", "model_release"})
"""Kinds of targets that only evidence leads to the assets of."""


def verify(  # noqa: PLR0913  # options of a command
    *,
    revocations: Path,
    corpus: str | None = None,
    evidence: Path | None = None,
    collect: Path | None = None,
    also: Sequence[str] = (),
    as_of: str = "",
    public_key: Sequence[Path] = (),
    workers: int | None = None,
    json: bool = False,
) -> int:
    """Read every file of a corpus and say whether anything of what was revoked is left.

    Trusts no manifest, and imports nothing of pardalis. What captions, pictures, codes and vectors to look
    for is gathered before they are erased; the file that holds them is as confidential as they are.

    Exit codes: 0, nothing was found, and the last line says so if not all was looked for; 2, a mistake, such
    as revocations that take nothing back; 3, something is left, a file could not be read, a log is broken, or
    nothing is proved of whole targets, of which no evidence was gathered.

    Example: pardalis verify --revocations taken-back.jsonl --evidence evidence.parquet --also reports/

    Parameters
    ----------
    revocations
        Records of revocations, one JSON object a line. What has ended by its licence is taken back without
        one: to prove that, fill in `pardalis contract template revocation` with target_type license, reason
        license_expired and every licence that has ended; an asset that another licence still names, name by
        itself, with target_type asset.
    corpus
        A folder, or s3://BUCKET/PREFIX, of which every version of every object is read; default
        $PARDALIS_CORPUS.
    evidence
        What --collect wrote before `pardalis revoke`; delete it after the proof. Without it only ids, hashes
        and fields are looked for, and nothing is proved of a contributor, licence, delivery or release.
    collect
        Write the evidence to this new file, and look for nothing. Do it before `pardalis revoke`: what is
        erased cannot be gathered, and then nobody can prove that captions, pictures, codes and vectors are
        gone. The file holds them: delete it after the proof.
    also
        More folders, files and s3:// addresses to read: reports, caches, runs, pages of evaluations.
    as_of
        Revocations that are in force at this instant; default now.
    public_key
        Ed25519 public keys (PEM or hex): the newest entry of the audit log and of the receipts must be signed
        by one of them, and every other signature be of one.
    workers
        Processes that read; default one a CPU.
    json
        One JSON document on stdout, with Merkle roots and proofs of absence.
    """
    root = _corpus(corpus)
    if workers is not None and workers < 0:
        raise ValueError(f"--workers {workers}: name 1 or more, or 0 to read in this process")
    if collect is not None and evidence is not None:
        raise ValueError(
            "--collect and --evidence: give --collect before the erasing and --evidence after it"
        )
    told = revocations_of(revocations, as_of)
    crew = (os.cpu_count() or 1) if workers is None else workers
    asked = Asked(root=root, also=tuple(also), told=told, workers=crew, json=json)
    if collect is not None:
        return _collect(asked, collect)
    return _verify(asked, evidence, public_key)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """By the command line."""

    root: Root
    also: tuple[Root, ...]
    told: Revocations
    workers: int
    json: bool


def _corpus(corpus: str | None) -> Root:
    told = corpus if corpus is not None else os.environ.get("PARDALIS_CORPUS")
    if told is None:
        raise ValueError("--corpus is not given, and $PARDALIS_CORPUS is not set; name the folder to read")
    if files.is_object(told):
        return told
    root = Path(told)
    if not root.is_dir():
        raise ValueError(f"--corpus {root} is no folder; give the folder of a corpus")
    return root


def revocations_of(path: Path, as_of: str) -> Revocations:
    try:
        instant = datetime.fromisoformat(as_of) if as_of else datetime.now(UTC)
    except ValueError:
        raise ValueError(f"--as-of {as_of}: write YYYY-MM-DDTHH:MM:SSZ") from None
    found = revocations.read(path, instant if instant.tzinfo else instant.replace(tzinfo=UTC))
    if not found.targets:
        rest = len(found.unjudged) - SHOWN
        why = "; ".join([*found.unjudged[:SHOWN], *([f"and {rest} more"] if rest > 0 else [])])
        fix = "give one that removes or replaces and is in force, or the instant at which it is as --as-of"
        raise ValueError(f"--revocations {path} takes nothing back: {why or 'it has no records'}; {fix}")
    return found


def _collect(asked: Asked, out: Path) -> int:
    told = asked.told
    where = out.resolve()
    for folder in (Path(one) for one in (asked.root, *asked.also) if not files.is_object(one)):
        if where.is_relative_to(folder.resolve()):
            fix = "which is read; keep the content outside of it"
            raise ValueError(f"--collect {out} lies in {folder}, {fix}")
    if out.exists():
        raise ValueError(f"--collect {out} exists; name another file, or delete it")
    found = collect.collect(asked.root, asked.also, told.targets, workers=asked.workers)
    evidence.write(out, found.items)
    kinds: dict[str, int] = {}
    for item in found.items:
        kinds[item.kind] = kinds.get(item.kind, 0) + 1
    unseen = [item.value.decode() for item in found.items if item.kind == "unseen" and not item.uid]
    missing = [*unseen, *told.unjudged]
    answer = {
        "evidence": str(out),
        "assets": list(found.assets),
        "items": kinds,
        "shared": found.shared,
        "not_looked_for": missing,
        "unread": [{"file": file, "why": why} for file, why in found.unread],
    }
    lines = [
        f"{out}: evidence of {len(found.assets)} assets, for its owner's eyes alone (mode 0600)",
        "It holds the very content that is to be erased: keep it apart, and delete it after the proof.",
        *(f"cannot be looked for: {one}" for one in missing),
        *(f"unread: {file}: {why}" for file, why in found.unread[:SHOWN]),
    ]
    _say(answer, lines, json=asked.json)
    return REFUSED if found.unread else 0


def _verify(asked: Asked, given: Path | None, keys: Sequence[Path]) -> int:
    root, told = asked.root, asked.told
    gathered = [] if given is None else evidence.read(given)
    # What was gathered for a target has its names, but for those that others bear too.
    items = list(dict.fromkeys([*collect.of_targets(late(told, gathered)), *gathered]))
    publics = [chain.public_key(key) for key in keys]
    listed = files.listed(root, asked.also)
    verdict = judging.judge(listed, items, workers=asked.workers)
    logs = checked_logs(root, listed, publics)
    missing = not_looked_for(told, gathered if given is not None else None)
    if publics and not any(log.entries for log in logs.values()):
        missing.append("signatures: the corpus has no entry of a log that --public-key could be of")
    unproved = late(told, gathered) if given is not None else of_many(told)
    passed = verdict.passed and all(log.is_sound for log in logs.values()) and not unproved
    revoked = sorted({item.uid for item in items if item.kind == "id" and ":" in item.uid})
    answer = {
        "passed": passed,
        "looked_for_all": not missing,
        "revoked": revoked,
        "files": verdict.num_files,
        "bytes": verdict.num_bytes,
        "leaks": [
            {"file": one.file, "place": one.place, "uid": one.uid, "kind": one.kind, "what": one.what}
            for one in verdict.leaks
        ],
        "more_of_the_same": verdict.untold,
        "unread": [{"file": file, "why": why} for file, why in verdict.unread],
        "allowed": verdict.allowed,
        "shared_with_newer_assets": {uid: sorted(owners) for uid, owners in verdict.shared_with.items()},
        "not_looked_for": missing,
        "unproved": [target.name for target in unproved],
        "logs": {
            name: {"entries": log.entries, "faults": list(log.faults), "signatures": log.signatures}
            for name, log in logs.items()
        },
        "artifacts": judging.proofs(verdict, revoked),
    }
    _say(answer, [*_lines(verdict, answer), _last(verdict, answer)], json=asked.json)
    return 0 if passed else REFUSED


LOGS = ("audit", "audit.jsonl", "receipts", "receipts.jsonl")


def checked_logs(root: Root, listed: Sequence[File], keys: Sequence[bytes]) -> dict[str, chain.Checked]:
    """The logs that the corpus has; of a bucket they are copied first."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(root)
        if files.is_object(root):
            place = Path(folder)
            mine = [one.object for one in listed if one.is_ours and one.object is not None]
            buckets.copied(mine, LOGS, place)
        return {name: chain.check_log(place / name, keys) for name in LOGS if (place / name).exists()}


def not_looked_for(told: Revocations, gathered: Sequence[Item] | None) -> list[str]:
    if gathered is None:
        return [f"{one}: no evidence was given" for one in WITHOUT_EVIDENCE] + list(told.unjudged)
    found = [item.value.decode() for item in gathered if item.kind == "unseen" and not item.uid]
    if num := len(late(told, gathered)):
        found.append(f"content of {num} targets, which the evidence was not gathered for")
    return [*found, *told.unjudged]


def late(told: Revocations, gathered: Sequence[Item]) -> list[Target]:
    """Targets that the evidence was not gathered for."""
    known = {item.value.hex() for item in gathered if item.kind == "target"}
    return [target for target in told.targets if target.sha256 not in known]


def of_many(told: Revocations) -> list[Target]:
    """Targets whose assets nobody knows without evidence."""
    return [target for target in told.targets if target.kind in OF_MANY]


def _lines(verdict: Verdict, answer: dict[str, Any]) -> list[str]:
    lines = [
        f"LEAK {one.file}: {one.place}: {one.what}{f' of {one.uid}' if one.uid else ''}"
        for one in verdict.leaks[:SHOWN]
    ]
    rest = len(verdict.leaks) - SHOWN
    if rest > 0 or verdict.untold:
        lines.append(f"… and {max(rest, 0)} more, {verdict.untold} of them like those that are told")
    lines += [f"UNREAD {file}: {why}" for file, why in verdict.unread[:SHOWN]]
    for name, log in answer["logs"].items():
        lines += [f"BROKEN {fault}" for fault in log["faults"]]
        lines.append(f"{name}: {log['entries']} entries, signatures: {log['signatures']}")
    lines += [f"allowed: {count} finds in {folder}" for folder, count in verdict.allowed.items()]
    for uid, owners in sorted(verdict.shared_with.items()):
        named = ", ".join(sorted(owners)[:5])
        lines.append(f"shared: {uid} has something in common with {named}, which came later")
    lines += [f"not looked for: {one}" for one in answer["not_looked_for"]]
    rest = len(answer["unproved"]) - SHOWN
    lines += [f"nothing is proved of {one}: no evidence was gathered" for one in answer["unproved"][:SHOWN]]
    return [*lines, f"… nor of {rest} more"] if rest > 0 else lines


def _last(verdict: Verdict, answer: dict[str, Any]) -> str:
    size = f"{verdict.num_files} files, {verdict.num_bytes / 1e6:.1f} MB"
    broken = sum(len(log["faults"]) for log in answer["logs"].values())
    if broken or not verdict.passed:
        counts = f"{len(verdict.leaks)} leaks, {len(verdict.unread)} files unread, {broken} faults of logs"
        return f"failed: {counts}, in {size}"
    found = f"nothing of {len(answer['revoked'])} revoked assets in {size}"
    if answer["looked_for_all"]:
        return f"passed: {found}"
    missing, unproved = len(answer["not_looked_for"]), len(answer["unproved"])
    more = f", and nothing is proved of {unproved} targets: exit code {REFUSED}" if unproved else ""
    return f"passed as far as it looked: {found}; {missing} things were not looked for{more}"


def _say(answer: dict[str, Any], lines: Sequence[str], *, json: bool) -> None:
    text = json_lines.dumps(answer, indent=1, ensure_ascii=False) if json else "\n".join(lines)
    sys.stdout.write(text + "\n")
