"""``pardalis sample``: a picture from words or from a picture, or words about a picture.

The surprising rule: whatever is wrong with the options is said before a corpus or a model is opened, and a
picture says of itself the command that draws it again, on which version of the corpus and checkpoint.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from cyclopts import Parameter

from infra import runs
from infra.options import CorpusOptions, answer, png
from infra.storage import Store
from pipeline.searching.library import Found
from trainer import doing, folder, given, signing
from trainer.doing import Ask, Caption, Draw, Edit, Infill, Show, Shown, Task, Tell, Told
from trainer.quantized import check_precision
from trainer.sampler import SamplerSection, check_two_terms
from trainer.signing import Signer
from trainer.studio import Drawing, Pixels, Studio, open_studio

SEEDS = 2**63
"""Seeds are hashed as signed 64-bit integers."""
NEIGHBORS = 2
"""Unless another number is told: whoever tells it for a task that looks for none is to hear of it."""
UNREPEATED = frozenset({"sign", "key", "json"})
"""Options that make no other picture."""
OPTIONS = {"overrides": "--set", "task_name": "--task"}
"""Of fields that are called otherwise."""


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class TaskOptions:
    text: str | None = None
    """What to draw; with --mask, what the whole picture shows."""
    image: Path | None = None
    """Picture to caption, or what --edit, --mask or --ask is about."""
    edit: str | None = None
    """Instruction: how to change --image."""
    mask: Path | None = None
    """Picture of the size of --image: white where that is to be drawn anew, black elsewhere."""
    ask: str | None = None
    """Question about --image."""
    task_name: Annotated[str | None, Parameter(name="--task")] = None
    """One of the instruction tasks by its name, such as grounded, sign, control or long-caption."""
    given: tuple[str, ...] = ()
    """FIELD=VALUE: what --task is about, each field by itself; a picture by its file."""

    def task(self) -> Task:
        """What is to be done."""
        if self.task_name is not None or self.given:
            return self._by_name()
        match (self.text, self.image, self.edit, self.mask, self.ask):
            case (str(text), None, None, None, None):
                return Draw(text)
            case (None, Path() as image, None, None, None):
                return Caption(image)
            case (None, Path() as image, str(instruction), None, None):
                return Edit(image, instruction)
            case (text, Path() as image, None, Path() as mask, None):
                return Infill(image, mask, text or "")
            case (None, Path() as image, None, None, str(question)):
                return Ask(image, question)
        raise ValueError(
            "give either --text, to draw, or --image, to caption it; with --image also one of --edit, to "
            "change it, --mask (and --text), to fill it in, or --ask, to be answered; or --task and --given; "
            f"given is {', '.join(self._named()) or 'nothing'}"
        )

    def _by_name(self) -> Tell | Show:
        if self._named() or self.task_name is None:
            raise ValueError(
                "--task NAME stands with --given FIELD=VALUE and with no other words or pictures; given is "
                f"{', '.join([*self._named(), '--given'])}"
            )
        found = given.read(self.task_name, self.given)
        return Show(found) if found.is_picture else Tell(found)

    def _named(self) -> list[str]:
        """The options that are given, but for those of --task."""
        told = {name: value for name, value in asdict(self).items() if name not in ("task_name", "given")}
        return [f"--{name}" for name, value in told.items() if value is not None]


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class DrawOptions:
    out: Path | None = None
    """PNG file; several samples stand side by side. How it was made is in its metadata."""
    neighbors: int | None = None
    """Retrieved assets shown to the model, with their credit in the answer; 0: none. Two, unless told."""
    without: tuple[str, ...] = ()
    """Of these neighbors, the uid of one that is not shown to the model; no other takes its place."""
    samples: int = 1
    """Pictures to draw."""
    best: Annotated[bool, Parameter(negative="")] = False
    """Order the samples by how well the corpus's encoder finds the words in them, the best first."""
    seed: int = 0
    """The same seed draws the same picture."""
    sign: Path | None = None
    """Certificate chain (PEM) to sign the picture with, as C2PA; needs --key."""
    key: Path | None = None
    """Private key (PEM) of --sign; read for signing alone."""

    @property
    def num_neighbors(self) -> int:
        return NEIGHBORS if self.neighbors is None else self.neighbors

    def check(self) -> None:
        if self.samples < 1:
            raise ValueError(f"--samples is {self.samples}; draw at least 1")
        if self.num_neighbors < 0:
            raise ValueError(f"--neighbors is {self.neighbors}; give 0 for none")
        if not 0 <= self.seed < SEEDS:
            raise ValueError(f"--seed is {self.seed}; give a number from 0 to {SEEDS - 1}")

    def check_fits(self, task: Task) -> None:
        """Refuse what would be without effect."""
        told = {field.name for field in fields(self) if getattr(self, field.name) != field.default}
        idle, why = set[str](), ""
        if isinstance(task, Told):
            idle, why = told - {"seed", "neighbors", "without"}, "it is answered in words"
        elif told & {"best"} and (isinstance(task, Edit) or not doing.words_of(task)):
            idle, why = {"best"}, "no words say what the picture shows, which the samples could be ordered by"
        if not idle and not doing.looks_for_neighbors(task):
            idle = told & {"neighbors", "without"}
            why = "neighbors are looked for to draw from words, to fill in with words and to caption"
        if idle:
            name = task.given.name if isinstance(task, Tell | Show) else type(task).__name__.lower()
            raise ValueError(
                f"{', '.join(f'--{one}' for one in sorted(idle))} with {name}: {why}; leave it out"
            )

    def target(self) -> Path:
        """Where the picture goes; refused before anything is drawn if it cannot go there."""
        if self.out is None:
            raise ValueError("a picture needs --out FILE.png to go to")
        return png(self.out)

    def signer(self) -> Signer | None:
        """Who signs; refused before anything is drawn if that cannot be."""
        if self.sign is None and self.key is None:
            return None
        if self.sign is None or self.key is None:
            raise ValueError("--sign CERT.pem and --key KEY.pem go together; give both")
        signer = Signer(certificate=self.sign, key=self.key)
        signer.check()
        return signer


def sample(
    *,
    run: Path,
    asked: TaskOptions | None = None,
    drawing: DrawOptions | None = None,
    options: CorpusOptions | None = None,
) -> None:
    """Draw, edit or fill in a picture, write a caption, or answer a question.

    Example: pardalis sample --run demo/run --text "red apple" --out apple.png

    The best of eight first: --text "red apple" --samples 8 --best --out apples.png

    A caption: --image apple.png; an answer: --image apple.png --ask "What color is it?"

    Another picture: --image apple.png --edit "make it green" --out green.png

    A part of it anew: --image apple.png --mask leaf.png --text "red apple" --out new.png

    Things at given places: --task grounded --given "caption=a kitchen"
    --given "things=sink at (20, 90) -> (120, 200), bottle at (180, 40) -> (210, 130)" --out kitchen.png

    Parameters
    ----------
    run
        Folder of a run that was trained on the corpus. --ask and --edit want one that was tuned for it.
    """
    asked = asked or TaskOptions()
    drawing, options = drawing or DrawOptions(), options or CorpusOptions()
    drawing.check()
    runs.folder(run)
    task = asked.task()
    check_files(task)
    drawing.check_fits(task)
    if isinstance(task, Told):
        tell(run, task, drawing, options)
    else:
        show(run, task, drawing, options, again=command(run, asked, drawing, options))


def check_files(task: Task) -> None:
    for name, path in doing.files(task).items():
        if not path.is_file():
            option = f"--given {name}=" if isinstance(task, Tell | Show) else f"--{name} is "
            raise ValueError(f"{option}{path}, and there is no such file")


def check_section(task: Task, section: SamplerSection) -> None:
    """Refuse settings that the task cannot be done with."""
    check_precision(section.precision)
    if isinstance(task, Edit):
        check_two_terms(section)


def tell(run: Path, task: Told, drawing: DrawOptions, options: CorpusOptions) -> None:
    """Words about a picture."""
    section = folder.settings(run, options).sampler
    check_section(task, section)
    corpus = options.open()
    studio = open_studio(corpus, corpus.newest(), run)
    found = doing.neighbors(studio, task, drawing.num_neighbors, drawing.without, section)
    words = doing.said(studio, task, found, section, seed=drawing.seed)
    told: dict[str, Any]
    match task:
        case Caption():
            told = {"caption": words, "neighbors": [signing.credit(one) for one in found]}
        case Ask(_, question):
            told = {"question": question, "answer": words}
        case Tell(asked):
            told = {"task": asked.name, asked.record.TARGET: words}
    lines = [words, *credited({}, [displayed(studio, one) for one in found])]
    answer(told, "\n".join(lines), json=options.json)


def show(run: Path, task: Shown, drawing: DrawOptions, options: CorpusOptions, *, again: str) -> None:
    """Draw, write the picture, and answer with who is to be credited."""
    out, signer = drawing.target(), drawing.signer()
    section = folder.settings(run, options).sampler
    check_section(task, section)
    corpus = options.open()
    version = corpus.newest()
    studio = open_studio(corpus, version, run)
    found = doing.neighbors(studio, task, drawing.num_neighbors, drawing.without, section)
    made = Drawing(section=section, seed=drawing.seed, samples=drawing.samples)
    pictures = doing.pictured(studio, task, found, made)
    facts = {**signing.told_of(studio, task, found, made), "command": again}
    facts["model"]["corpus_version"] = version.number
    if drawing.best:
        pictures, facts["scores"] = doing.ranked(studio, facts["prompt"], pictures)
    image = signing.png(side_by_side(pictures), facts)
    Store.at(out.absolute().parent).write(out.name, image if signer is None else signer.signed(image, facts))
    lines = [str(out), *credited(facts, [displayed(studio, one) for one in found])]
    answer({"out": str(out), **facts}, "\n".join(lines), json=options.json)


def displayed(studio: Studio, found: Found) -> Found:
    """With its words where its licences let them be shown; else with its uid and its credit alone."""
    return found if studio.may_display(found.uid) else replace(found, description="")


def side_by_side(pictures: Pixels) -> Pixels:
    """[side, samples x side, 3]"""
    return np.concatenate(pictures, axis=1)


def command(run: Path, *groups: TaskOptions | DrawOptions | CorpusOptions) -> str:
    """What draws the same picture again, as long as the corpus has no newer version and the run no newer
    checkpoint than the picture says of itself. Who signs it is left to whoever draws it.
    """
    words = ["pardalis", "sample", "--run", str(run)]
    for one_group in groups:
        group = told_corpus(one_group) if isinstance(one_group, CorpusOptions) else one_group
        for field in fields(group):
            value = getattr(group, field.name)
            if value == field.default or field.name in UNREPEATED:
                continue
            option = OPTIONS.get(field.name, f"--{field.name}")
            for one in value if isinstance(value, tuple) else (value,):
                words += _given(option, one)
    return shlex.join(words)


def told_corpus(options: CorpusOptions) -> CorpusOptions:
    """The same with its corpus named, which is another's elsewhere where none is."""
    return replace(options, corpus=options.address())


def _given(option: str, value: object) -> list[str]:
    """As words of a command line.

    >>> _given("--best", True), _given("--text", "a cat"), _given("--text", "-5 degrees")
    (['--best'], ['--text', 'a cat'], ['--text=-5 degrees'])
    """
    if value is True:
        return [option]
    # What begins with a dash would be taken for an option of its own.
    return [f"{option}={value}"] if str(value).startswith("-") else [option, str(value)]


def credited(facts: Mapping[str, Any], found: Sequence[Found]) -> list[str]:
    """Lines under a picture, or under words: scores, and whom to credit."""
    scores = [f"  scores {' '.join(map(str, facts['scores']))}"] if "scores" in facts else []
    return [*scores, *(f"  {one.score:.3f} {one.uid} {one.description!r} {one.attribution}" for one in found)]
