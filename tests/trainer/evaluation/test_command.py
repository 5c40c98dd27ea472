"""``pardalis evaluate`` on a corpus of drawn shapes and a run that has hardly learnt anything."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from infra.cli import MISTAKE, run
from infra.corpus import Corpus
from infra.storage import Store
from pipeline import schema
from pipeline.split import VALIDATION
from tests.laws.conftest import TINY, Deliveries, revoke, sample, standing
from tokenizer_service import coding, inception, metrics, vocabulary
from trainer import doing, prompts, sampler, tasks
from trainer.doing import Caption
from trainer.evaluation import (
    again,
    command,
    following,
    infilling,
    judged,
    known,
    placing,
    redrawing,
    report,
    telling,
    texts,
)
from trainer.evaluation.bench import Bench
from trainer.evaluation.judged import CEILING, COPY, MODEL
from trainer.evaluation.known import Known, Listed
from trainer.evaluation.rights import Rights
from trainer.instruct import reading
from trainer.instruct.importing import Item
from trainer.quantized import ready
from trainer.sampler import Request, SamplerSection
from trainer.sampling import NEIGHBORS
from trainer.studio import Drawing
from trainer.tasks import Asked, Captioned, Controlled, Edited, Grounded, Picture, Record, Written

TRAINER = """
[trainer.admission]
as_of = "2026-06-01T00:00:00Z"
[trainer.model]
num_layers = 1
width = 32
num_heads = 2
context = 320
init_std = 0.02
[trainer.masking]
max_spans = 1
[trainer.stream]
rows_per_step = 2
[trainer.optimizer]
num_steps = 20
warmup_steps = 2
[trainer.loop]
threads = 1
validate_every = 20
checkpoint_every = 20
[trainer.sampler]
max_text_tokens = 8
"""
AS_OF = "2026-06-01T00:00:00Z"

pytestmark = [pytest.mark.slow, pytest.mark.plan, pytest.mark.timeout(600)]


TEN = ("ana",) * 6 + ("ben",) * 2 + ("nobody", "cat")


OURS_NOT = "give it a dreamy mood"
"""No wording of ours."""


def brought(number: int) -> dict[str, str]:
    """What came with a picture, as an import writes it: a question with all that people answered, an edit in
    words that are none of ours, and a map that we cannot make.
    """
    image = Picture(f"a{number:04d}")
    asked = Asked(question="Who drew this?", answer="ana", image=image)
    records = [
        asked,
        Edited(before=image, instruction=OURS_NOT, after=image),
        Controlled(kind="openpose", map=image, caption="a pose", image=image),
    ]
    item = Item(asset_id=image.uid, image=Path(), description="a", records=records, answers={asked: TEN})
    return item.entries()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``corpus``, ``run`` and ``tiny.toml``."""
    root = tmp_path_factory.mktemp("evaluated")
    file = root / "tiny.toml"
    file.write_text(TINY.replace("context = 96", "context = 316") + TRAINER)
    options = ["--corpus", str(root / "corpus"), "--config", str(file), "--engine", "inline"]
    uri = Deliveries(root).write([standing(number, extra=brought(number)) for number in range(32)])
    torch.set_num_threads(1)
    assert run(["ingest", uri, "--as-of", AS_OF, *options]) == 0
    assert run(["build", *options]) == 0
    assert run(["train", "--run", str(root / "run"), *options]) == 0
    return root


def words(place: Path, out: str, *more: str) -> list[str]:
    corpus = ["--corpus", str(place / "corpus")]
    return ["evaluate", "--run", str(place / "run"), *corpus, "--out", str(place / out), *more]


def told(place: Path, out: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((place / out / report.JSON).read_text())
    return found


def test_without_instruction_data_one_is_told_what_makes_it(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(words(place, "early", "--tasks", "edit")) == MISTAKE
    assert "pardalis instruct make" in capsys.readouterr().err
    assert not (place / "early").exists()


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--tasks", "edits"], "is no task"),
        (["--items", "0"], "--items is 0"),
        (["--seed", "-1"], "--seed is -1"),
        (["--inception", "nowhere.pth"], "no such file"),
    ],
)
def test_a_mistake_is_named_before_the_work(
    place: Path, more: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(words(place, "mistaken", *more)) == MISTAKE
    assert said in capsys.readouterr().err


@pytest.fixture(scope="module")
def instructed(place: Path) -> Path:
    options = ["--corpus", str(place / "corpus"), "--config", str(place / "tiny.toml")]
    assert run(["instruct", "make", *options, "--engine", "inline"]) == 0
    return place


@pytest.fixture(scope="module")
def evaluated(instructed: Path) -> Path:
    assert run(words(instructed, "out", "--items", "6")) == 0
    return instructed


def test_every_task_has_a_place_in_the_report(evaluated: Path) -> None:
    (found,) = told(evaluated, "out")["runs"]
    assert list(found["parts"]) == list(command.PARTS)
    assert (evaluated / "out" / report.PAGE).is_file()
    for name, part in found["parts"].items():
        assert part["measures"] or part["tables"], name
        for measure in part["measures"]:
            assert measure["items"] <= 6 or name == "constraints", name
            for one in measure["means"].values():
                assert one["low"] <= one["mean"] <= one["high"]


def test_what_is_known_is_not_made_again(evaluated: Path) -> None:
    results = evaluated / "out" / command.RESULTS
    times = {path.name: path.stat().st_mtime_ns for path in results.iterdir()}
    before = told(evaluated, "out")
    assert run(words(evaluated, "out", "--items", "6")) == 0
    assert {path.name: path.stat().st_mtime_ns for path in results.iterdir()} == times
    assert told(evaluated, "out") == before


def opened(place: Path, version: int | None = None, **section: Any) -> Bench:
    """With the rights of now."""
    corpus = Corpus(Store.at(place / "corpus"))
    of = corpus.newest() if version is None else corpus.version(version)
    allowed = Rights.read(corpus, of)
    drawn_by = SamplerSection(top_k=5, **section)
    return command.bench(place / "run", (corpus, of, allowed), drawn_by, command.Asked(items=6))


def held_out(bench: Bench, found: Sequence[Listed[Record]]) -> Bench:
    """With no other examples that are held out."""
    other = Known(bench.corpus, bench.version, bench.studio, bench.rights)
    other.held_out = list(found)
    return replace(bench, known=other)


DRAWN = {
    "placement": {MODEL},
    "pictures": {"0 neighbors", "1 neighbors", "2 neighbors"},
    "constraints": {MODEL},
    "announced": {f"sample {number}" for number in range(1, 9)},
    "occupations": {f"drawn {number}" for number in range(1, 5)},
}
"""What is drawn of words alone."""
OURS = {"map", "met"}
"""Words of no asset: which map, and what was met."""
DRAWING = [name for name in command.PARTS if name not in ("caption", "question")]


@pytest.mark.parametrize("part", [name for name in command.PARTS if name != "sign"])
def test_what_may_not_be_displayed_is_not_on_the_page(evaluated: Path, part: str) -> None:
    bench = opened(evaluated)
    uids = frozenset(bench.studio.library.members["uid"].to_pylist())
    hidden = replace(bench, rights=replace(bench.rights, unshown=uids))
    shown = command.PARTS[part](hidden).shown
    assert shown
    for one in shown:
        assert {name for name, picture in one.pictures.items() if picture is not None} == DRAWN.get(
            part, set()
        )
        told = {name for name, words in one.said.items() if words is not None}
        ours = part in ("announced", "occupations") or str(one.said.get("prompt")).startswith("draw ")
        assert told - OURS == ({"prompt"} if ours else set())


@pytest.mark.parametrize("part", DRAWING)
def test_every_part_that_draws_counts_near_duplicates(evaluated: Path, part: str) -> None:
    (found,) = told(evaluated, "out")["runs"]
    if part == "sign" and reading.missing():
        pytest.skip("signs are not read here")
    (table,) = [one for one in found["parts"][part]["tables"] if one["title"].startswith("Near-duplicates")]
    assert any(row[0].startswith(MODEL) or "neighbors" in row[0] for row in table["rows"])


def test_nothing_is_made_of_what_may_not_be_changed(evaluated: Path) -> None:
    bench = opened(evaluated)
    items = [*bench.items(Captioned), *bench.items(Edited), *bench.items(Grounded)]
    sources = sorted({uid for item in items for uid in item.sources})
    kept = frozenset([*sources[::2], *bench.known.uids[::2]])
    allowed = replace(bench.rights, underived=kept)
    known_ = Known(bench.corpus, bench.version, bench.studio, allowed)
    bench = replace(bench, rights=allowed, known=known_)
    assert kept & {uid for item in bench.items(Captioned) for uid in item.sources}
    found = [*bench.items(Captioned, changed=True), *following.edged(bench)]
    found += [item for kind in redrawing.KINDS for item in redrawing.of_instruction(bench, kind)]
    assert any(isinstance(item.record, Edited) for item in found)
    assert kept.isdisjoint(uid for item in found for uid in item.sources)
    assert kept.isdisjoint(known_.uids[i] for i in known_.changeable)
    assert set(known_.uids) & kept


@pytest.mark.parametrize("part", ["infill", "edit", "placement", "control"])
def test_where_every_grant_to_derive_has_lapsed_there_is_nothing(evaluated: Path, part: str) -> None:
    bench = opened(evaluated)
    uids = frozenset(bench.studio.library.members["uid"].to_pylist())
    allowed = replace(bench.rights, underived=uids)
    known_ = Known(bench.corpus, bench.version, bench.studio, allowed)
    found = command.PARTS[part](replace(bench, rights=allowed, known=known_))
    assert not found.measures
    assert " now" in found.about or "may be changed" in found.about


def shares(table: judged.Table) -> dict[str, float]:
    """Of near-duplicates, by who drew."""
    return {str(row[0]): float(str(row[3])) for row in table.rows}


@pytest.mark.parametrize("task", [Written, Grounded, Edited])
def test_a_derived_picture_of_training_that_is_given_back_is_found(
    evaluated: Path, task: type[Record]
) -> None:
    bench = opened(evaluated)
    uids = bench.known.derived(task)[:20]
    copied = {COPY: bench.remembered(uids)}
    table = again.duplicates(bench, copied, task=task)
    assert shares(table) == {COPY: 1.0}
    assert f"and {len(bench.known.derived(task))} of the" in table.title
    assert shares(again.duplicates(bench, copied))[COPY] < 1


def test_what_was_copied_is_looked_for_first_where_not_all_can_be(
    evaluated: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = opened(evaluated)
    monkeypatch.setattr(again, "MOST_DERIVED", 1)
    last = bench.known.derived(Written)[-1]
    rows = {COPY: bench.remembered([last])}
    assert shares(again.duplicates(bench, rows, task=Written, first=[last])) == {COPY: 1.0}
    assert shares(again.duplicates(bench, rows, task=Written)) == {COPY: 0.0}


@pytest.mark.parametrize("part", ["placement", "sign"])
def test_the_copy_of_a_derived_picture_is_a_near_duplicate_on_the_page(evaluated: Path, part: str) -> None:
    if part == "sign" and reading.missing():
        pytest.skip("signs are not read here")
    (found,) = told(evaluated, "out")["runs"]
    (table,) = found["parts"][part]["tables"]
    assert {row[0]: row[3] for row in table["rows"]}[COPY] == 1.0
    assert "derived ones of this task" in table["title"]


def test_what_came_along_is_judged_by_what_can_be_said_of_it(evaluated: Path) -> None:
    """An edit in other words, and a map that we cannot make."""
    (found,) = told(evaluated, "out")["runs"]
    names = {name: [one["name"] for one in found["parts"][name]["measures"]] for name in ("edit", "control")}
    assert "other, PSNR to the true result in dB" in names["edit"]
    mine = [name for name in names["control"] if name.startswith("openpose")]
    assert mine == ["openpose, PSNR to the true picture in dB"]


def test_edits_in_words_that_are_none_of_ours_are_judged_alone_too(evaluated: Path) -> None:
    bench = opened(evaluated)
    edits = known.of_kind(bench.known.held_out, Edited)
    bench = held_out(bench, [one for one in edits if one.record.instruction == OURS_NOT])
    found = redrawing.edited(replace(bench, num_items=8))
    assert [one.name for one in found.measures] == ["other, PSNR to the true result in dB"]
    assert "the kind other against" in found.about


@pytest.mark.parametrize("task", [Edited, Grounded])
def test_beside_a_single_item_chance_is_a_training_picture(evaluated: Path, task: type[Record]) -> None:
    bench = opened(evaluated)
    (one, *_) = known.of_kind(bench.known.held_out, task)
    bench = held_out(bench, [one])
    (item,) = bench.items(task)
    true = bench.through([item.pictures[tasks.pictures(item.record)[-1].uid]])
    (chance,) = bench.chance(true, ["any"], "edit")
    assert any((chance == other).all() for other in bench.through(bench.known.pictures))
    assert not (chance == true[0]).all()
    judge = redrawing.edited if task is Edited else placing.placed
    assert {len(each) for one in judge(bench).measures for each in one.scores.values()} == {1}


def test_a_run_that_draws_half_of_its_samples_otherwise_edits_by_two_terms(evaluated: Path) -> None:
    assert "Drawn by top_p" in redrawing.edited(opened(evaluated, method="half")).about
    assert "Drawn by" not in redrawing.edited(opened(evaluated)).about


def test_weights_are_made_smaller_once_and_not_at_every_batch(evaluated: Path) -> None:
    model = opened(evaluated, precision="bfloat16").studio.model
    assert ready(model, "bfloat16") is model
    assert opened(evaluated).studio.model.tokens.weight.dtype == torch.float32


def requests_of(name: str, monkeypatch: pytest.MonkeyPatch) -> list[Request]:
    """What that function of the sampler is asked for from here on."""
    asked: list[Request] = []
    drawn = getattr(sampler, name)

    def seen(*args: Any, **settings: Any) -> Any:
        asked.extend(args[1])
        return drawn(*args, **settings)

    monkeypatch.setattr(sampler, name, seen)
    return asked


def test_the_same_is_asked_of_the_model_as_in_the_playground(
    evaluated: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = opened(evaluated)
    asked = requests_of("draw_images", monkeypatch)
    drawing = Drawing(section=bench.section, seed=0)
    (edit, *_) = bench.items(Edited)
    redrawing.redrawn(bench, [edit], ["any"])
    bench.studio.edit(edit.pictures[edit.record.before.uid], edit.record.instruction, drawing)
    assert asked[0] == asked[1]
    asked.clear()
    (item, *_) = bench.items(Captioned, lambda record: record.wording == 0)
    picture = item.pictures[item.record.image.uid]
    row = infilling.cut(item.name, bench.studio.num_codes)
    codes = list(bench.studio.codes([picture]))
    infilling.infilled(bench, [item], codes, [row])
    hole = infilling.mask(row, bench.studio.num_codes, bench.studio.side)
    near = bench.neighbors(item, NEIGHBORS)
    fitting = near[: sum(token == vocabulary.BREAK for token in asked[0].prompt) // 2]
    assert fitting
    bench.studio.infill(picture, hole, item.record.caption, fitting, drawing)
    assert asked[0] == asked[1]
    assert asked[0].away != prompts.UNCONDITIONAL


def test_captions_are_asked_for_as_by_the_command_behind_what_fits(
    evaluated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = opened(evaluated)
    asked = requests_of("draw_texts", monkeypatch)
    (item, *_) = bench.items(Captioned, lambda record: record.wording == 0)
    near = bench.alike(item, NEIGHBORS)
    own = bench.studio.fact(item.record.image.uid, schema.GROUP)
    assert own not in {one.group for one in near}
    assert near
    bench.captions("caption", [item], [near])
    picture = tmp_path / "a.png"
    Image.fromarray(item.pictures[item.record.image.uid]).save(picture)
    task = Caption(picture)
    found = doing.neighbors(bench.studio, task, NEIGHBORS, (), bench.section)
    doing.said(bench.studio, task, found, bench.section, seed=0)
    assert asked[0] == asked[1]


def test_what_results_hang_on_is_in_their_name(
    evaluated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = opened(evaluated)
    none: frozenset[str] = frozenset()
    allowed = Rights(refused=none, unshown=none, underived=none)

    def name(rights: Rights) -> str:
        of = (bench.corpus, bench.version, rights)
        return command.identity(evaluated / "run", "last", of, bench.section, command.Asked())

    monkeypatch.setattr(command, "cache_folder", lambda: tmp_path)
    one = frozenset(["acme:a0001"])
    of_rights = [name(replace(allowed, **{field: one})) for field in ("refused", "unshown", "underived")]
    names = [name(allowed), *of_rights]
    with monkeypatch.context() as other:
        other.setattr(reading, "missing", lambda: None if reading.WEIGHTS.missing() else "not installed")
        names.append(name(allowed))
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / inception.FILE).write_bytes(b"weights")
    names.append(name(allowed))
    assert len(set(names)) == len(names)


def test_what_is_taken_back_is_no_item_and_stands_beside_none(evaluated: Path, tmp_path: Path) -> None:
    for name in ("corpus", "run"):
        shutil.copytree(evaluated / name, tmp_path / name)
    before = opened(tmp_path)
    held_out = before.items(Captioned)[0].sources[0]
    trained = before.studio.neighbors("a red circle", 1)[0].uid
    deliveries = Deliveries(tmp_path)
    _, uri = (deliveries.write([sample(number)]) for number in (99, 100))
    revoke(uri, target_type="asset", targets=[uid.partition(":")[2] for uid in (held_out, trained)])
    options = ["--corpus", str(tmp_path / "corpus"), "--config", str(evaluated / "tiny.toml")]
    assert run(["ingest", uri, "--as-of", AS_OF, *options, "--engine", "inline"]) == 0
    after = opened(tmp_path, before.version.number)
    assert after.rights.refused == {held_out, trained}
    assert not after.may_show([held_out])
    assert before.may_show([held_out])
    assert held_out not in {uid for item in after.items(Captioned) for uid in item.sources}
    assert set(after.known.uids) == set(before.known.uids) - {trained}
    assert len(after.known.pictures) == len(after.known.codes_NT) == len(after.known.uids)
    assert trained not in [one.uid for one in after.studio.neighbors("a red circle", 3)]
    for example in (*after.known.examples, *after.known.held_out):
        assert {held_out, trained}.isdisjoint(example.sources)


def test_a_question_is_scored_by_all_that_people_answered(evaluated: Path) -> None:
    bench = replace(opened(evaluated), num_items=100)
    items = bench.items(Asked)
    given = telling.true_answers(bench, items)
    came = [item.record.question == "Who drew this?" for item in items]
    assert any(came)
    assert not all(came)
    for item, with_ten, several in zip(items, came, given, strict=True):
        assert several == (TEN if with_ten else (item.record.answer,))
    assert texts.vqa_accuracy("Ben", TEN) == pytest.approx((2 * 1 / 3 + 8 * 2 / 3) / 10)
    assert f"{sum(came)} of {len(items)} questions" in telling.questions(bench).about


def test_a_copy_of_the_input_is_scored_as_the_input_behind_the_tokenizer(evaluated: Path) -> None:
    bench = opened(evaluated)
    items = bench.items(Edited)
    assert items
    befores = [item.pictures[item.record.before.uid] for item in items]
    drawn = redrawing.redrawn(bench, items, ["any"] * len(items))
    errors = redrawing.of_kind(items, [("any", None)] * len(items), drawn, "any")[0].scores
    for item, before, error in zip(items, befores, errors[COPY], strict=True):
        vq = bench.studio.vq
        seen = coding.decode_codes(vq, coding.encode_images(vq, before[None]))[0]
        after = item.pictures[item.record.after.uid]
        assert error == pytest.approx(float(metrics.psnr_each(after[None], seen[None])[0]))
    assert errors[CEILING] != errors[COPY]


def test_the_packs_give_derived_pictures_of_training_back(evaluated: Path) -> None:
    bench = opened(evaluated)
    training = bench.known
    derived = {one.record.after.uid for one in training.trained(Edited)}
    codes = training.codes(derived)
    assert codes.keys() == derived
    assert {len(one) for one in codes.values()} <= {bench.studio.num_codes}
    held_out = {one.name for one in known.listed(bench.corpus, bench.version, VALIDATION)}
    assert held_out.isdisjoint(one.name for one in training.examples)


def test_two_runs_stand_side_by_side(evaluated: Path) -> None:
    both = [
        "--run",
        str(evaluated / "run"),
        *words(evaluated, "out", "--items", "6", "--tasks", "caption")[1:],
    ]
    assert run(["evaluate", *both]) == 0
    found = told(evaluated, "out")
    assert len(found["runs"]) == 2
    means = [one["parts"]["caption"]["measures"][0]["means"] for one in found["runs"]]
    assert means[0] == means[1]
    assert {MODEL, COPY} <= means[0].keys()
