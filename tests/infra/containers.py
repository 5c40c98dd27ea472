"""Dockerfiles as a builder reads them: stages of steps with their arguments, and what is wrong with one."""

from __future__ import annotations

import io
import json
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from dockerfile_parse import DockerfileParser

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "infra" / "deploy" / "docker"
FILES = (FOLDER / "Dockerfile", FOLDER / "Dockerfile.cuda")

VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")
SECRET = re.compile(r"TOKEN|SECRET|PASSW|CREDENTIAL|(?:^|_)KEY", re.IGNORECASE)
WITH_USER = re.compile(r"://[^/\s]*@")


@dataclass(frozen=True, slots=True)
class Step:
    kind: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    base: str
    name: str
    steps: tuple[Step, ...]


def stages(file: Path, given: Mapping[str, str] | None = None) -> list[Stage]:
    """In order; ``given`` are arguments of the build."""
    parser = DockerfileParser(fileobj=io.BytesIO(file.read_bytes()))
    known: dict[str, str] = {}
    found: list[tuple[str, str, list[Step]]] = []
    for part in parser.structure:
        kind, text = part["instruction"], part["value"]
        if kind == "COMMENT":
            continue
        if kind == "FROM":
            base, _, name = substituted(text, known).partition(" AS ")
            found.append((base, name, []))
        elif not found:
            assert kind == "ARG", f"{kind} stands before FROM"
            known |= argument(text, given or {})
        else:
            found[-1][2].append(Step(kind, text))
    return [Stage(base=base, name=name, steps=tuple(steps)) for base, name, steps in found]


def argument(text: str, given: Mapping[str, str]) -> dict[str, str]:
    name, _, value = text.partition("=")
    return {name: given.get(name, value)}


def substituted(text: str, known: Mapping[str, str]) -> str:
    return VARIABLE.sub(lambda found: known[found[1] or found[2]], text)


def pairs(text: str) -> dict[str, str]:
    """Of ENV."""
    return dict(word.split("=", 1) for word in shlex.split(text))


def ignored(path: str, rules: list[str]) -> bool:
    """Whether a path of the repository stays out of the build. The last rule that speaks of it counts."""
    out = False
    for rule in rules:
        pattern = rule.removeprefix("!")
        heads = [path[:end] for end in (*(at.start() for at in re.finditer("/", path)), len(path))]
        if any(fnmatch(f"/{head}", pattern.replace("**/", "*/")) or fnmatch(head, pattern) for head in heads):
            out = not rule.startswith("!")
    return out


def words(text: str) -> list[str]:
    """Of ENTRYPOINT, as a list: what is written as a line, a shell would stand before."""
    found: list[str] = json.loads(text)
    return found


def rules(file: Path) -> list[str]:
    lines = file.with_name(f"{file.name}.dockerignore").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def faults(file: Path) -> Iterator[str]:
    """What a person who reviews images would send back."""
    found = stages(file)
    names = {stage.name for stage in found}
    for stage in found:
        if stage.base not in names and not pinned(stage.base):
            yield f"FROM {stage.base}: no release and no digest"
        for step in stage.steps:
            yield from faults_of(step)
    last = found[-1]
    users = [step.text for step in last.steps if step.kind == "USER"]
    if not users or not re.fullmatch(r"[1-9]\d*:[1-9]\d*", users[-1]):
        yield f"USER {users[-1] if users else 'root'}: Kubernetes tells numbers from root, and no names"
    elif any(step.kind in {"RUN", "COPY"} for step in after_user(last)):
        yield "a step after USER: what it makes, that user may change"
    entries = [step.text for step in last.steps if step.kind == "ENTRYPOINT"]
    if not entries or words(entries[-1]) != ["pardalis"]:
        yield "ENTRYPOINT is not the command"


def after_user(stage: Stage) -> list[Step]:
    kinds = [step.kind for step in stage.steps]
    return list(stage.steps[kinds.index("USER") :])


def pinned(base: str) -> bool:
    """Debian's ``12`` and ``bookworm`` are other trees from month to month; ``12.12`` is one."""
    return "@sha256:" in base or re.search(r":\d+\.\d+", base) is not None


def faults_of(step: Step) -> Iterator[str]:
    if step.kind == "ADD":
        yield f"ADD {step.text}: fetches and unpacks; COPY does neither"
    if step.kind in {"ARG", "ENV"}:
        names = [step.text.partition("=")[0]] if step.kind == "ARG" else list(pairs(step.text))
        for name in names:
            if SECRET.search(name):
                yield f"{step.kind} {name}: stays in the image for all to read"
    if WITH_USER.search(step.text):
        yield f"{step.kind}: an address with a name or a password in it"
    if step.kind == "RUN" and "apt-get install" in step.text:
        for word in ("apt-get update", "--no-install-recommends", "rm -rf /var/lib/apt/lists/*"):
            if word not in step.text:
                yield f"RUN apt-get install without {word}"
