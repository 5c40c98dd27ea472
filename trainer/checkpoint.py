"""Save and resume a run: every rank writes its shards as safetensors, beside the training; never pickle.

Arrays go through ``torch.distributed.checkpoint``, so that a run goes on with any number of ranks, sharded or
not. The surprising rule: a checkpoint is a folder that appears whole, see :mod:`infra.checkpoints`; it does
so some time after :meth:`Checkpoints.save`, and what went wrong is told by the next call or by ``wait``.
"""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, distributed, nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import async_save

from infra import checkpoints
from infra.artifact import Corrupt
from tokenizer_service.vocabulary import Live
from trainer import parallel
from trainer.model import ModelSection, Transformer

STATE = "state.json"
FORMAT = 2
MOMENTS = ("exp_avg", "exp_avg_sq")
"""What AdamW remembers of each weight; its step is that of the run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What a checkpoint holds beside the arrays. All of it is JSON."""

    step: int
    """Finished steps."""
    stream: Mapping[str, Any]
    """Where the stream goes on."""
    live: Live
    model: ModelSection
    progress: Mapping[str, Any]
    """What the loop remembers: the best validation so far, and the like; ``updates`` of the weights."""
    note: Mapping[str, Any]
    """Facts that the run hands through: its whole configuration, artifact names, licences."""


def _to_json(state: State, files: Mapping[str, int]) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "files": dict(files),
        "step": state.step,
        "stream": dict(state.stream),
        "live": {"num_text": state.live.num_text, "num_codes": state.live.num_codes},
        "model": state.model.model_dump(),
        "progress": dict(state.progress),
        "note": dict(state.note),
    }


def read_state(folder: Path) -> State:
    """The JSON part of a checkpoint."""
    facts = _facts(folder)
    return State(
        step=facts["step"],
        stream=facts["stream"],
        live=Live(**facts["live"]),
        model=ModelSection.model_validate(facts["model"]),
        progress=facts["progress"],
        note=facts["note"],
    )


def _facts(folder: Path) -> dict[str, Any]:
    try:
        facts: dict[str, Any] = json.loads((folder / STATE).read_text())
    except (FileNotFoundError, ValueError) as error:
        raise _damaged(folder / STATE, error) from None
    if facts["format"] != FORMAT:
        raise ValueError(
            f"{folder} has checkpoint format {facts['format']}, this version reads {FORMAT}; train the run "
            "anew, or go on with the version that began it"
        )
    return facts


def _damaged(path: Path, error: object) -> Corrupt:
    return Corrupt(
        f"{path} cannot be read: {error}; remove the folder {path.parent}, and the checkpoint before it "
        "is used (`pardalis train --resume` makes the lost one again)"
    )


def _model_arrays(model: nn.Module) -> dict[str, Tensor]:
    return {f"model.{name}": weight.detach() for name, weight in model.named_parameters()}


def _moments(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    return {
        f"{moment}.{name}": held[moment] if held else torch.zeros_like(weight)
        for name, weight in model.named_parameters()
        for held in (optimizer.state[weight],)  # empty before the first update
        for moment in MOMENTS
    }


def _generators() -> dict[str, Tensor]:
    """Of this rank: what dropout draws from."""
    states = {f"rng.cpu.{parallel.rank()}": torch.get_rng_state()}
    if torch.cuda.is_available():
        states[f"rng.cuda.{parallel.rank()}"] = torch.cuda.get_rng_state()
    return states


def load_model(folder: Path) -> Transformer:
    """The model of a checkpoint, whole, on the CPU, ready to sample."""
    state = read_state(folder)
    model = Transformer(state.model, state.live)
    _load(folder, _names(folder), _model_arrays(model), alone=True)
    return model.eval()


def take_weights(folder: Path, model: Transformer) -> None:
    """Put a checkpoint's weights into a model of the same shape, in place; each rank takes what it holds."""
    state = read_state(folder)
    if (state.model, state.live) != (model.section, model.live):
        raise ValueError(
            f"{folder} holds a model of another shape or vocabulary than the run's; leave trainer.model as "
            "it is there, and use a corpus with its tokenizers"
        )
    _load(folder, _names(folder), _model_arrays(model))


def restore(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> State:
    """Put weights, optimiser and random state back, in place. A rank that was not there before goes on with
    the random state that it has.
    """
    state = read_state(folder)
    step = torch.tensor(float(state.progress["updates"]))
    for weight in model.parameters():
        moments = {moment: torch.zeros_like(weight) for moment in MOMENTS}
        optimizer.state[weight] = {"step": step.to(weight.device, copy=True), **moments}
    names = _names(folder)
    generators = {name: held for name, held in _generators().items() if name in names}
    _load(folder, names, _model_arrays(model) | _moments(model, optimizer) | generators)
    for name, held in generators.items():
        (torch.cuda.set_rng_state if "cuda" in name else torch.set_rng_state)(held)
    return state


def _names(folder: Path) -> frozenset[str]:
    """Arrays of a checkpoint."""
    found: set[str] = set()
    for name, size in _facts(folder)["files"].items():
        path = folder / name
        try:
            if path.stat().st_size != size:
                raise _damaged(path, f"it has {path.stat().st_size} bytes, not {size}")
            with safe_open(path, "pt") as file:
                found.update(file.keys())
        except (OSError, SafetensorError) as error:
            raise _damaged(path, error) from None
    return frozenset(found)


def _load(folder: Path, names: frozenset[str], arrays: dict[str, Tensor], *, alone: bool = False) -> None:
    """``names`` are those that the checkpoint has."""
    if missing := arrays.keys() - names:
        raise _damaged(folder / STATE, f"{min(missing)} is in none of its files")
    try:
        load(arrays, storage_reader=HuggingFaceStorageReader(str(folder)), no_dist=_one_process() or alone)
    except (CheckpointException, ValueError, RuntimeError, OSError, SafetensorError) as error:
        raise _damaged(folder / STATE, _last_line(str(error))) from None


def _last_line(text: str) -> str:
    """What torch wraps in its tracebacks."""
    return text.strip().rpartition("\n")[2]


def _one_process() -> bool:
    """Whether there is no group. Torch warns of that at each save and load, in threads of its own."""
    warnings.filterwarnings("ignore", message="torch.distributed is disabled, unavailable or uninitialized")
    return not distributed.is_initialized()


class Checkpoints:
    """The folder of a run: ``step-00000100``, …, of which the last few stay, and ``best-00000080``, which has
    no optimiser, with the best before it. All ranks call :meth:`save`; they share the disk.
    """

    def __init__(
        self, *, folder: Path, keep: int = 2, before: Callable[[State], None] = lambda _: None
    ) -> None:
        """``before`` is called with what is about to be saved, on rank 0."""
        self.folder = folder
        self.keep = keep
        self._before = before
        self._writing: Future[None] | None = None
        self._thread: ThreadPoolExecutor | None = None
        self._group: Any = None

    def save(self, model: nn.Module, optimizer: torch.optim.Optimizer, *, state: State) -> None:
        """Copy everything now and write it while training goes on."""
        arrays = _model_arrays(model) | _moments(model, optimizer) | _generators()
        self._save("step", arrays, state, keep=self.keep)

    def save_best(self, model: nn.Module, *, state: State) -> None:
        # Two: a run that goes on from before the later one forgets it.
        self._save("best", _model_arrays(model), state, keep=2)

    def _save(self, kind: str, arrays: dict[str, Tensor], state: State, *, keep: int) -> None:
        self.wait()
        place = checkpoints.place(self.folder, kind, state.step)
        if parallel.told_by_first(place.exists()):
            return  # the same run at the same step is the same state
        aside = place.with_name(f".{place.name}.partial")

        def begin() -> None:
            self._before(state)
            shutil.rmtree(aside, ignore_errors=True)
            aside.mkdir(parents=True)

        parallel.by_first(begin)
        written = async_save(
            arrays,
            storage_writer=HuggingFaceStorageWriter(str(aside), save_distributed=True),
            process_group=self._own_group(),
            no_dist=_one_process(),
        )
        if not isinstance(written, Future):
            raise TypeError(
                f"async_save gave a {type(written).__name__} and copied nothing; pin another torch"
            )

        def publish() -> None:
            try:
                written.result()
                if parallel.is_first():
                    files = {path.name: path.stat().st_size for path in sorted(aside.iterdir())}
                    text = json.dumps(_to_json(state, files), indent=1, sort_keys=True) + "\n"
                    (aside / STATE).write_text(text)
                    checkpoints.publish(aside, place)
                    checkpoints.prune(self.folder, kind, keep=keep)
            except BaseException:
                shutil.rmtree(aside, ignore_errors=True)
                raise

        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, "checkpoint")
        self._writing = self._thread.submit(publish)

    def _own_group(self) -> Any:
        """Its messages must not meet those of the training, which go on meanwhile."""
        if self._group is None and distributed.is_initialized():
            self._group = distributed.new_group(backend="gloo", timeout=parallel.TIMEOUT)
        return self._group

    def wait(self) -> None:
        """Until the last one is complete on all ranks. Raises what kept it from being so."""
        if self._writing is None:
            return
        error = self.settle()
        errors = [one for one in parallel.gathered(None if error is None else str(error)) if one]
        if errors:
            raise checkpoints.NotWritten(
                f"no checkpoint could be written to {self.folder}: {_last_line(errors[0])}; the one before "
                "is whole: make room, and go on with `pardalis train --resume`"
            ) from error

    def settle(self) -> BaseException | None:
        """Until this rank's part is written, or given up; what kept it from being so."""
        writing, self._writing = self._writing, None
        return None if writing is None else writing.exception()

    def forget(self, *, after: int) -> None:
        """Drop the best of a course that was lost with its process; the run takes another now."""
        if parallel.is_first():
            for one in checkpoints.complete(self.folder, "best"):
                if read_state(one).step > after:
                    shutil.rmtree(one)
        parallel.barrier()

    def latest(self) -> Path | None:
        """Where to resume."""
        return checkpoints.latest(self.folder, "step")

    def best(self) -> Path | None:
        """The lowest validation loss; without validation, the latest."""
        return checkpoints.latest(self.folder, "best") or self.latest()
