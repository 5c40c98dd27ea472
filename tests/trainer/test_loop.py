from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import distributed

from tokenizer_service import vocabulary
from tokenizer_service.vocabulary import Live
from trainer import checkpoint, loop
from trainer.checkpoint import Checkpoints
from trainer.cm3 import Batch
from trainer.config import TrainerConfig
from trainer.loop import Streams
from trainer.model import ModelSection, Transformer, initialise

LIVE = Live(num_text=12, num_codes=8)
SECTION = ModelSection(num_layers=1, width=16, num_heads=2, context=16, dropout=0.1, init_std=0.02)


def documents(seed: int, num_rows: int) -> Batch:
    """Rows of one document: the word says which code fills the image."""
    rng = np.random.default_rng(seed)
    word = rng.integers(0, 8, num_rows)
    ids = np.empty((num_rows, 8), np.int64)
    ids[:, [0, 7]], ids[:, 2] = vocabulary.EOS, vocabulary.BREAK
    ids[:, 1] = vocabulary.from_text(word)
    ids[:, 3:7] = vocabulary.from_codes(word)[:, None]
    index = np.tile(np.arange(8, dtype=np.int32), (num_rows, 1))
    return Batch.of(ids, np.zeros_like(index), index)


def arrays(folder: Path) -> dict[str, torch.Tensor]:
    files = sorted(folder.glob("*.safetensors"))
    return {name: array for path in files for name, array in load_file(path).items()}


class Words:
    """A stream whose batches are numbered."""

    def __init__(self, num_rows: int = 4) -> None:
        self.at = 0
        self.num_rows = num_rows

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Batch:
        self.at += 1
        return documents(self.at, self.num_rows)

    def state(self) -> Mapping[str, Any]:
        return {"at": self.at}

    def seek(self, state: Mapping[str, Any]) -> None:
        self.at = state["at"]


def held_out() -> Iterator[Batch]:
    yield documents(0, 4)


def config(num_steps: int, **loop_values: object) -> TrainerConfig:
    return TrainerConfig.model_validate(
        {
            "model": SECTION.model_dump(),
            "optimizer": {"num_steps": num_steps, "warmup_steps": 2, "learning_rate": 1e-2},
            "loop": {
                "report_every": 1,
                "validate_every": 5,
                "checkpoint_every": 5,
                "threads": 1,
                **loop_values,
            },
        }
    )


def timeless(metrics: Mapping[str, float]) -> Mapping[str, float]:
    """What does not hang on the machine."""
    return {name: value for name, value in metrics.items() if not name.startswith("speed/")}


def train(
    folder: Path, settings: TrainerConfig, *, stream: Words | None = None
) -> tuple[loop.Outcome, list[Mapping[str, float]], Transformer]:
    torch.manual_seed(0)
    model = initialise(Transformer(settings.model, LIVE), seed=settings.seed)
    reports: list[Mapping[str, float]] = []
    outcome = loop.fit(
        model,
        Streams(train=stream or Words(), validation={"alone": held_out}),
        settings.recipe({"corpus": "words"}),
        report=lambda metrics: reports.append(timeless(metrics)),
        checkpoints=Checkpoints(folder=folder),
    )
    return outcome, reports, model


@pytest.mark.long
def test_a_model_learns_what_a_word_looks_like(tmp_path: Path) -> None:
    settings = config(200, validate_every=50, checkpoint_every=200)
    outcome, reports, _ = train(tmp_path, settings)
    assert [report["step"] for report in reports] == list(range(1, 201))
    assert reports[49]["alone/loss/image"] > 0.5  # of log(8) = 2.1
    assert reports[-1]["alone/loss/image"] < 0.5
    assert outcome.best_step == 200
    note = checkpoint.read_state(tmp_path / "best-00000200").note
    assert note["corpus"] == "words"
    assert note["config"]["optimizer"]["num_steps"] == 200


class StopsAfter(Words):
    """A stream that dies: what a killed process looks like from inside."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.steps = steps

    def __next__(self) -> Batch:
        if self.at == self.steps:
            raise KeyboardInterrupt
        return super().__next__()


def test_a_run_that_died_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    _, straight, _ = train(tmp_path / "straight", config(20))
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "halves", config(20), stream=StopsAfter(10))
    torch.manual_seed(99)
    outcome, second, _ = train(tmp_path / "halves", config(20))
    assert second == straight[10:]
    assert outcome.step == 20
    one, two = (arrays(tmp_path / run / "step-00000020") for run in ("straight", "halves"))
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)
    states = [tmp_path / run / "step-00000020" / checkpoint.STATE for run in ("straight", "halves")]
    assert states[0].read_text() == states[1].read_text()


def test_a_finished_run_does_nothing(tmp_path: Path) -> None:
    first, _, _ = train(tmp_path, config(5))
    again, reports, _ = train(tmp_path, config(5))
    assert again == first
    assert reports == []


def test_a_group_of_one_rank_trains_as_if_there_were_no_group(tmp_path: Path) -> None:
    _, alone, _ = train(tmp_path / "alone", config(3))
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    try:
        _, grouped, _ = train(tmp_path / "grouped", config(3))
    finally:
        distributed.destroy_process_group()
    assert grouped == alone


def test_accumulated_batches_weigh_as_one(tmp_path: Path) -> None:
    class Ragged(Words):
        """The rows of ``Words(6)``, as batches of 2 and 4."""

        def __next__(self) -> Batch:
            self.at += 1
            whole = documents((self.at + 1) // 2, 6)
            rows = slice(0, 2) if self.at % 2 else slice(2, 6)
            return Batch(
                ids_BT=whole.ids_BT[rows],
                documents_BT=whole.documents_BT[rows],
                positions_BT=whole.positions_BT[rows],
            )

    plain = {"model": {**SECTION.model_dump(), "dropout": 0.0}}
    whole = TrainerConfig.model_validate(config(6).model_dump() | plain)
    parts = TrainerConfig.model_validate(config(6, accumulation=2).model_dump() | plain)
    _, one, _ = train(tmp_path / "a", whole, stream=Words(6))
    _, two, _ = train(tmp_path / "b", parts, stream=Ragged())
    assert [r["tokens"] for r in one] == [r["tokens"] for r in two]
    for name in ("loss", "gradient_norm"):
        assert [r[name] for r in one] == pytest.approx([r[name] for r in two], rel=1e-5), name


def test_training_stops_when_validation_stops_improving(tmp_path: Path) -> None:
    class Noise(Words):
        def __next__(self) -> Batch:
            self.at += 1
            batch = documents(self.at, 4)
            rng = np.random.default_rng(self.at)
            ids_BT = batch.ids_BT.clone()
            ids_BT[:, 3:7] = torch.from_numpy(vocabulary.IMAGE_START + rng.integers(0, 2, (4, 4)))
            return Batch(ids_BT=ids_BT, documents_BT=batch.documents_BT, positions_BT=batch.positions_BT)

    outcome, _, _ = train(tmp_path, config(200, patience=2, watch="alone/loss/image"), stream=Noise())
    assert outcome.stopped_early
    assert outcome.step == outcome.best_step + 10
    best = Checkpoints(folder=tmp_path).best()
    assert best is not None
    assert checkpoint.read_state(best).step == outcome.best_step
    again, reports, _ = train(tmp_path, config(200, patience=2, watch="alone/loss/image"), stream=Noise())
    assert (again, reports) == (outcome, [])


def test_a_watched_number_that_is_not_there_is_named_with_those_that_are(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="watch is 'alone/loss/sound'; the validation has alone/loss, "):
        train(tmp_path, config(5, watch="alone/loss/sound"))


def test_bfloat16_changes_the_loss_a_little_and_the_weights_stay_float32(tmp_path: Path) -> None:
    _, full, _ = train(tmp_path / "a", config(3))
    _, half, model = train(tmp_path / "b", config(3, dtype="bfloat16"))
    assert half[0]["loss"] == pytest.approx(full[0]["loss"], rel=0.02)
    assert half != full
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}


def test_a_loss_that_is_no_number_ends_the_run_and_leaves_the_last_checkpoint(tmp_path: Path) -> None:
    train(tmp_path, config(10))
    good = arrays(tmp_path / "step-00000010")
    wild = config(20, checkpoint_every=1)
    wild = wild.model_copy(
        update={"optimizer": wild.optimizer.model_copy(update={"learning_rate": 1e39, "spike_ratio": None})}
    )
    with pytest.raises(FloatingPointError, match="step 11: some weights are no numbers, so no checkpoint"):
        train(tmp_path, wild)
    seldom = wild.model_copy(update={"loop": wild.loop.model_copy(update={"checkpoint_every": 50})})
    with pytest.raises(FloatingPointError, match=r"step 12: the loss is nan; .*go on from it with"):
        train(tmp_path, seldom)
    latest = Checkpoints(folder=tmp_path).latest()
    assert latest == tmp_path / "step-00000010"
    assert all(torch.equal(good[name], array) for name, array in arrays(latest).items())
    assert not list(tmp_path.glob(".*"))


def test_a_step_whose_documents_were_all_taken_back_changes_nothing(tmp_path: Path) -> None:
    class Blank(Words):
        """Of each two batches the second has no document left."""

        def __next__(self) -> Batch:
            batch = super().__next__()
            if self.at % 2:
                return batch
            return Batch(batch.ids_BT, torch.full_like(batch.documents_BT, -1), batch.positions_BT)

    _, reports, model = train(tmp_path, config(6), stream=Blank())
    assert [report["tokens"] for report in reports] == [28, 0, 28, 0, 28, 0]
    assert [report["skipped"] for report in reports] == [0, 1, 1, 2, 2, 3]
    assert all(bool(weight.isfinite().all()) for weight in model.parameters())
    state = checkpoint.read_state(tmp_path / "step-00000005")
    assert state.progress["updates"] == 3


@pytest.mark.parametrize(
    "words",
    [
        {"recompute": "blocks"},
        {"threads": 2},
        pytest.param(
            {"engine": "compile"},
            # The compiler's own warnings are not ours to mend.
            marks=[pytest.mark.slow, pytest.mark.timeout(300), pytest.mark.filterwarnings("ignore")],
        ),
    ],
)
def test_how_a_step_is_computed_changes_no_number_much(tmp_path: Path, words: dict[str, object]) -> None:
    # Without dropout: a compiled block draws from a generator of its own.
    sure = {"model": {**SECTION.model_dump(), "dropout": 0.0}}
    first, second = (
        TrainerConfig.model_validate(config(4, **one).model_dump() | sure) for one in ({}, words)
    )
    _, plain, _ = train(tmp_path / "a", first)
    _, other, _ = train(tmp_path / "b", second)
    assert [r["loss"] for r in other] == pytest.approx([r["loss"] for r in plain], rel=1e-4)


def test_losses_are_told_by_modality_place_and_distance(tmp_path: Path) -> None:
    _, reports, _ = train(tmp_path, config(3))
    told = {"loss/text", "loss/image", "loss/special", "loss/image/target_0", "loss/from/0"}
    assert told <= reports[-1].keys()
    weighed = 4 * reports[-1]["loss/image"] + reports[-1]["loss/text"] + 2 * reports[-1]["loss/special"]
    assert weighed / 7 == pytest.approx(reports[-1]["loss"], rel=1e-5)


@pytest.mark.parametrize("variant", ["paper", "modern"])
@pytest.mark.filterwarnings("error:Cannot dispatch:UserWarning")
def test_sharded_in_bfloat16_with_blocks_computed_again_is_near_the_same_without(
    tmp_path: Path, variant: str
) -> None:
    """The path of the large configurations, but for the compiler, in a group of one."""
    plain = {**SECTION.model_dump(), "dropout": 0.0, "variant": variant}
    words = {"strategy": "fsdp", "recompute": "blocks", "accumulation": 2, "dtype": "bfloat16"}
    base = TrainerConfig.model_validate(config(3, accumulation=2).model_dump() | {"model": plain})
    large = TrainerConfig.model_validate(config(3, **words).model_dump() | {"model": plain})
    _, alone, _ = train(tmp_path / "alone", base)
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    try:
        _, sharded, _ = train(tmp_path / "sharded", large)
    finally:
        distributed.destroy_process_group()
    assert [r["loss"] for r in sharded] == pytest.approx([r["loss"] for r in alone], rel=0.02)
    assert sharded[-1]["alone/loss"] == pytest.approx(alone[-1]["alone/loss"], rel=0.02)
