"""A Dockerfile's steps in order, each in a chroot: what a builder does, for machines where none runs.

The surprising rule: what the machine's own clients need to reach their sources (certificates, settings of apt
and pip, folders that those name) is laid into the trees as it is found. A builder that stands behind the same
sources is given the same.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.infra import containers
from tests.infra.containers import ROOT, Stage, Step

DEBIAN = "bookworm"
CLIENTS = (
    "/etc/resolv.conf",
    "/etc/pip.conf",
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/apt/apt.conf.d",
    "/etc/apt/auth.conf.d",
)
PASSED = re.compile(r"PIP_\w+|\w+_proxy|SSL_CERT_FILE|REQUESTS_CA_BUNDLE|CURL_CA_BUNDLE", re.IGNORECASE)
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
STEP_S = 3000.0
ENTER = """
root=$1; shift
mount --rbind "$root" "$root"
while [ "$1" != -- ]; do
  mount --bind "$1" "$root$1"; mount -o remount,bind,ro "$root$1"; shift
done
shift
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
if [ "$1" = read-only ]; then
  ip link set lo up
  mount -o remount,bind,ro "$root"
  for folder in /tmp /var/cache/pardalis /dev/shm; do mount -t tmpfs -o mode=1777 tmpfs "$root$folder"; done
fi
shift
exec chroot "$@"
"""
"""In namespaces that end with the process: nothing stays mounted, and nothing runs on."""
APART = ["unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child"]
MODES = {"writable": APART, "read-only": [*APART, "--net"]}


class Broken(AssertionError):
    """A step, and the last that it said."""


@dataclass(slots=True)
class Tree:
    """A stage, as far as it is built."""

    root: Path
    folder: str = "/"
    user: str = "0:0"
    environment: dict[str, str] = field(default_factory=lambda: {"PATH": PATH})
    arguments: dict[str, str] = field(default_factory=dict)
    entry: list[str] = field(default_factory=list)

    def run(self, words: Sequence[str], *, mode: str = "writable", timeout_s: float = STEP_S) -> str:
        """Its output. ``read-only``: all but /tmp and the cache, and on a network of its own."""
        lay_in(self.root)
        folders = [folder for folder in named_folders() if folder.is_dir()]
        for folder in folders:
            (self.root / folder.relative_to("/")).mkdir(parents=True, exist_ok=True)
        home = "/root" if self.user == "0:0" else self.folder
        inside = ["env", "-i", *(f"{name}={value}" for name, value in self._variables(home).items())]
        entered = ["sh", "-ec", ENTER, "sh", str(self.root), *map(str, folders), "--", mode]
        chroot = [f"--userspec={self.user}", str(self.root), *inside]
        # chroot(1) leaves one at the root.
        there = ["sh", "-ec", 'cd "$1"; shift; exec "$@"', "sh", self.folder, *words]
        done = subprocess.run(
            [*MODES[mode], *entered, *chroot, *there],
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout_s,
        )
        if done.returncode:
            told = "\n".join((done.stdout + done.stderr).splitlines()[-30:])
            raise Broken(f"{' '.join(words)}: ended with {done.returncode}\n{told}")
        return done.stdout

    def _variables(self, home: str) -> dict[str, str]:
        passed = {name: value for name, value in os.environ.items() if PASSED.fullmatch(name)}
        return {"HOME": home, **passed, **self.arguments, **self.environment}

    def at(self, path: str) -> Path:
        """On this machine."""
        return self.root / os.path.normpath(Path(self.folder, path)).lstrip("/")


def built(file: Path, base: Path, scratch: Path, given: Mapping[str, str]) -> Tree:
    """The last stage. ``base`` is the tree that all stages begin with."""
    trees: dict[str, Tree] = {}
    for number, stage in enumerate(containers.stages(file, given)):
        root = scratch / str(number)
        subprocess.run(["cp", "-a", str(base), str(root)], check=True)  # noqa: S607  # coreutils
        trees[stage.name] = grown(Tree(root), stage, given, trees, containers.rules(file))
    return trees[""]


def grown(
    tree: Tree, stage: Stage, given: Mapping[str, str], trees: Mapping[str, Tree], rules: list[str]
) -> Tree:
    for step in stage.steps:
        text = (
            containers.substituted(step.text, tree.arguments | tree.environment) if step.kind != "RUN" else ""
        )
        match step.kind:
            case "ARG":
                tree.arguments |= containers.argument(step.text, given)
            case "ENV":
                tree.environment |= containers.pairs(text)
            case "WORKDIR":
                tree.folder = text
                tree.at(".").mkdir(parents=True, exist_ok=True)
            case "USER":
                tree.user = text
            case "COPY":
                copy(tree, text, trees, rules)
            case "RUN":
                tree.run(["sh", "-c", step.text])
            case "ENTRYPOINT":
                tree.entry = containers.words(text)
            case _:
                assert step == Step("HEALTHCHECK", "NONE"), f"no builder here knows {step}"
    return tree


def copy(tree: Tree, text: str, trees: Mapping[str, Tree], rules: list[str]) -> None:
    *words, to = text.split()
    origin = [word.removeprefix("--from=") for word in words if word.startswith("--")]
    for word in (word for word in words if not word.startswith("--")):
        target = tree.at(to) / Path(word).name if to.endswith("/") else tree.at(to)
        if origin:
            # Hard links: of gigabytes, and no step of this stage changes them.
            command = ["cp", "-al", str(trees[origin[0]].at(word)), str(target)]
            subprocess.run(command, check=True)
        elif (ROOT / word).is_dir():
            shutil.copytree(ROOT / word, target, ignore=lambda at, names: left_out(at, names, rules))
        else:
            shutil.copy(ROOT / word, target)


def left_out(at: str, names: list[str], rules: list[str]) -> set[str]:
    folder = Path(at).relative_to(ROOT)
    return {name for name in names if containers.ignored(str(folder / name), rules)}


def lay_in(root: Path) -> None:
    """Each over what stands there: a link in the tree may lead to a file of this machine."""
    for client in map(Path, CLIENTS):
        for file in sorted(client.iterdir()) if client.is_dir() else [client] if client.is_file() else []:
            target = root / file.relative_to("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.unlink(missing_ok=True)
            shutil.copy(file, target)


def named_folders() -> Iterator[Path]:
    """Those that this machine's pip is told to look in."""
    told = subprocess.run(["pip", "config", "list"], capture_output=True, text=True, check=False).stdout  # noqa: S607  # whichever there is
    told += " ".join(value for name, value in os.environ.items() if name.startswith("PIP_"))
    yield from sorted({Path(found) for found in re.findall(r"(?<![\w:/])(?:file://)?(/[\w./-]+)", told)})


def bare(folder: Path) -> Path:
    """Debian as its own installer leaves it, from where this machine has its packages."""
    shown = ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"]
    sources = subprocess.run(shown, capture_output=True, text=True, check=True).stdout.split()
    mirror = next(source for source in sources if "security" not in source)
    # What it mounts, it leaves mounted where it is killed.
    made = [*APART, "debootstrap", "--variant=minbase", DEBIAN, str(folder), mirror]
    done = subprocess.run(made, capture_output=True, text=True, check=False, timeout=STEP_S)
    if done.returncode:
        raise Broken(f"debootstrap ended with {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-500:]}")
    return folder
