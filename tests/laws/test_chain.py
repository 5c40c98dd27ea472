"""From a built corpus to a trained model that draws: the commands in process, on the small delivery."""

from __future__ import annotations

import io
import json
import shlex
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from infra.artifact import Made, publish_artifact, publish_shard
from infra.cli import MISTAKE, run
from infra.corpus import Corpus
from infra.storage import Store
from pipeline import c2pa, refs, tables, tokenized
from pipeline.step import ROWS
from pipeline.tokenized import Tokenizers
from pipeline.tokens import TOKENS, VQ
from tests.pipeline import signing

from .conftest import TINY, Deliveries, sample

pytestmark = [pytest.mark.plan, pytest.mark.timeout(240)]

TRAINER = """
[trainer.model]
num_layers = 1
width = 32
num_heads = 2
context = 100
[trainer.masking]
max_spans = 1
[trainer.stream]
rows_per_step = 2
[trainer.sampler]
temperature = 0.625
max_text_tokens = 8
[trainer.optimizer]
num_steps = 4
warmup_steps = 1
[trainer.loop]
threads = 1
validate_every = 2
checkpoint_every = 2
report_every = 1
"""


@pytest.fixture
def corpus(tmp_path: Path, deliveries: Deliveries) -> list[str]:
    """Options of every command on a corpus that ``ingest`` and ``build`` made."""
    file = tmp_path / "tiny.toml"
    file.write_text(TINY.replace("max_spans = 4", "") + TRAINER)
    options = ["--corpus", str(tmp_path / "corpus"), "--config", str(file)]
    uri = deliveries.write([sample(number) for number in range(24)])
    engine = ["--engine", "inline"]
    assert run(["ingest", uri, "--as-of", "2026-06-01T00:00:00Z", *options, *engine]) == 0
    assert run(["build", *options, *engine]) == 0
    return options


def test_the_commands_carry_a_delivery_to_a_picture_and_a_caption(
    corpus: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = ["--run", str(tmp_path / "run")]
    assert run(["train", *folder, *corpus, "--engine", "inline"]) == 0
    metrics = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in metrics] == [1, 2, 3, 4]
    assert {"neighbors/loss/image", "alone/loss/text"} <= metrics[-1].keys()

    assert run(["train", *folder, *corpus, "--engine", "inline"]) == MISTAKE
    assert "--resume" in capsys.readouterr().err
    assert run(["train", *folder, *corpus, "--engine", "inline", "--resume"]) == 0

    out = tmp_path / "drawn.png"
    capsys.readouterr()
    assert run(["sample", *folder, *corpus, "--text", "a red circle", "--out", str(out), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert [one["licenses"] for one in answer["neighbors"]] != []
    with Image.open(out) as picture:
        assert picture.size == (32, 32)
        told = json.loads(picture.info["pardalis"])
    assert (told["prompt"], told["settings"]["temperature"]) == ("a red circle", 0.625)
    assert run(["sample", *folder, *corpus, "--image", str(out)]) == 0
    check_a_picture_is_changed_and_asked_about(["sample", *folder, *corpus], out, capsys)

    assert (
        run(["index", "query", *corpus[:2], "--image", str(out), "--text", "a circle", "-k", "3", "--json"])
        == 0
    )
    found = json.loads("[" + capsys.readouterr().out.split("\n[", 1)[1])
    assert len(found) == 3
    assert [one["score"] for one in found] == sorted((one["score"] for one in found), reverse=True)


def check_a_picture_is_changed_and_asked_about(
    words: list[str], drawn: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By every task on a given picture; and what draws several says which is best and who signed it."""
    folder, image = drawn.parent, ["--image", str(drawn)]
    mask = np.zeros((32, 32), np.uint8)
    mask[8:20, 10:30] = 255
    Image.fromarray(mask).save(folder / "mask.png")
    (folder / "cert.pem").write_bytes(signing.identity().chain)
    (folder / "key.pem").write_bytes(signing.identity().key)

    capsys.readouterr()
    assert run([*words, *image, "--ask", "What is it?", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["question"] == "What is it?"

    several = ["--samples", "3", "--best", "--seed", "5", "--out", str(folder / "new.png"), "--json"]
    signed = ["--sign", str(folder / "cert.pem"), "--key", str(folder / "key.pem")]
    filled = ["--mask", str(folder / "mask.png"), "--text", "a circle", "--neighbors", "1"]
    assert run([*words, *image, *filled, *several, *signed]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["scores"] == sorted(told["scores"], reverse=True)
    assert (told["task"], len(told["scores"]), len(told["neighbors"])) == ("infill", 3, 1)
    assert "--sign" not in told["command"]
    first = (folder / "new.png").read_bytes()
    assert c2pa.read(first, c2pa.SETTINGS) == ({"entries": []}, [])
    again = shlex.split(told["command"])[1:]
    assert run(again) == 0
    with Image.open(folder / "new.png") as unsigned, Image.open(io.BytesIO(first)) as before:
        assert np.array_equal(np.asarray(unsigned), np.asarray(before))
        assert json.loads(unsigned.info["pardalis"]) == json.loads(before.info["pardalis"])

    assert run([*words, "--text", "a circle", "--neighbors", "0", "--out", str(folder / "alone.png")]) == 0
    with Image.open(folder / "alone.png") as alone:
        assert json.loads(alone.info["pardalis"])["neighbors"] == []

    assert run([*words, *image, "--edit", "make it blue", "--out", str(folder / "edited.png")]) == 0
    with Image.open(folder / "edited.png") as edited:
        told = json.loads(edited.info["pardalis"])
    assert (told["task"], told["prompt"], told["neighbors"]) == ("edit", "make it blue", [])


def test_a_corpus_trains_without_a_file_and_a_refused_command_leaves_the_folder_free(
    corpus: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    at, folder = corpus[:2], tmp_path / "new"
    short = ["--set", "trainer.optimizer.num_steps = 2", "--set", "trainer.optimizer.warmup_steps = 1"]
    small = ["--set", "trainer.stream.rows_per_step = 2", "--set", "trainer.model.num_layers = 1"]
    words = ["train", "--run", str(folder), *at, *short, *small, "--engine", "inline"]
    capsys.readouterr()
    assert run([*words, "--set", "trainer.masking.max_spans = 5"]) == MISTAKE
    assert "pipeline.examples.rows.max_spans" in capsys.readouterr().err
    assert not folder.exists()
    assert not Corpus(Store.at(at[1])).store.names("runs/")
    assert run(words) == 0
    assert json.loads((folder / "run.json").read_text())["config"]["model"]["context"] == 96

    capsys.readouterr()
    assert run(["logs", *at, "--json"]) == 0
    events = {event["event"]: event for event in json.loads(capsys.readouterr().out)}
    assert (events["run"]["version"], events["work"]["done"]) == (2, 2)

    shutil.rmtree(folder / "step-00000002")
    resumed = ["train", "--run", str(folder), *at, "--engine", "inline", "--resume"]
    assert run(resumed) == 0
    assert (folder / "step-00000002").is_dir()


def test_a_training_that_fails_leaves_its_log(corpus: list[str], tmp_path: Path) -> None:
    unknown = ["--set", "trainer.loop.watch = 'nothing'"]
    words = ["train", "--run", str(tmp_path / "run"), *corpus, *unknown, "--engine", "inline"]
    assert run(words) == MISTAKE
    names = Corpus(Store.at(corpus[1])).store.names("logs/")
    assert sum(name.endswith("-train.jsonl") for name in names) == 1


def test_a_run_is_not_sampled_with_another_corpus(
    corpus: list[str], tmp_path: Path, deliveries: Deliveries, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = ["--run", str(tmp_path / "run")]
    assert run(["train", *folder, *corpus, "--engine", "inline"]) == 0
    uri = deliveries.write([sample(number) for number in range(24, 36)])
    other = ["--corpus", str(tmp_path / "other"), *corpus[2:]]
    assert run(["ingest", uri, "--as-of", "2026-06-01T00:00:00Z", *other, "--engine", "inline"]) == 0
    assert run(["build", "--to", "vq", *other, "--engine", "inline"]) == 0
    capsys.readouterr()
    out = tmp_path / "drawn.png"
    assert run(["sample", *folder, *other, "--text", "a circle", "--out", str(out)]) == MISTAKE
    assert f"trained with the tokenizers of version 2 of {corpus[1]}" in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--text", "a circle"], "needs --out"),
        (["--text", "a circle", "--out", "nowhere/a.png"], "there is no folder nowhere"),
        (["--text", "a circle", "--out", "a.jpg"], "let it end in .png"),
        (["--text", "a circle", "--out", "a.png", "--samples", "0"], "draw at least 1"),
        (["--text", "a circle", "--out", "a.png", "--neighbors=-1"], "--neighbors is -1"),
        (["--text", "a circle", "--out", "a.png", "--seed=-1"], "--seed is -1"),
        (["--image", "nowhere.png"], "there is no such file"),
        (["--image", "a.png", "--text", "a circle"], "either --text"),
        (["--text", "a circle", "--edit", "a square"], "given is --text, --edit"),
        (["--text", "a circle", "--out", "a.png", "--sign", "a.pem"], "go together"),
        (["--text", "a circle", "--out", "a.png", "--sign", "a.pem", "--key", "b.pem"], "--sign is a.pem"),
        ([], "either --text"),
    ],
)
def test_a_sample_that_cannot_be_is_refused_before_anything_is_opened(
    words: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nothing = ["--run", str(tmp_path / "run"), "--corpus", str(tmp_path / "corpus")]
    assert run(["sample", *nothing, *words]) == MISTAKE
    assert told in capsys.readouterr().err


@pytest.mark.parametrize("words", [["train"], ["sample", "--image", "a.png"]])
def test_an_address_is_refused_as_the_folder_of_a_run(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*words, "--run", "s3://bucket/run", "--corpus", "nowhere"]) == MISTAKE
    assert "s3:// is the address of an object store" in capsys.readouterr().err


def test_codes_and_back(corpus: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image, codes, again = (tmp_path / name for name in ("in.png", "codes.json", "out.png"))
    image.write_bytes(sample(5)[1])
    capsys.readouterr()
    assert run(["tokenizer", "encode", "--image", str(image), "--words", "a red circle", *corpus[:2]]) == 0
    encoded = json.loads(capsys.readouterr().out)
    assert len(encoded["codes"]) == 16
    codes.write_text(json.dumps(encoded))
    assert run(["tokenizer", "decode", str(codes), "--out", str(again), *corpus[:2]]) == 0
    with Image.open(again) as picture:
        assert np.asarray(picture).shape == (32, 32, 3)


def test_the_image_tokenizer_is_measured_on_what_was_held_out_at_its_own_side(
    corpus: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert run(["tokenizer", "eval", *corpus[:2], "--out", str(tmp_path / "page"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    opened = Corpus(Store.at(corpus[1]))
    shards = opened.artifact(opened.newest(), "split").shards.values()
    tables_ = [tables.read_parquet(refs.of(opened.store, shard, ROWS)).to_pylist() for shard in shards]
    held_out = {row["uid"] for rows in tables_ for row in rows if row["split"] == "validation"}
    assert (found["images"], found["side"]) == (len(held_out), 32)
    assert {one["name"] for one in found["worst"]} <= held_out
    assert sum(one["images"] for one in found["categories"]) >= len(held_out)
    assert (tmp_path / "page" / "index.html").exists()
    assert run(["tokenizer", "eval", *corpus[:2], "--side", "64", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["side"] == 64


def test_tokens_of_another_tokenizer_are_refused_by_those_who_read_them(
    corpus: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Somebody put the shards of another corpus in place of these."""
    store = Store.at(corpus[1])
    opened = Corpus(store)
    artifact = opened.artifact(opened.newest(), "tokenize")
    made_by = {shard.facts["image_tokenizer"] for shard in artifact.shards.values()}
    assert made_by == {opened.artifact(opened.newest(), "vq").only.sha256(VQ)}
    (shard, *_) = artifact.shards.values()
    table = tables.read_ipc(refs.of(store, shard, TOKENS)).drop_columns(
        ["text_tokenizer", "image_tokenizer", "xxh3"]
    )
    other = tables.to_ipc(tokenized.signed(table, Tokenizers(text="a" * 64, image="b" * 64)))
    swapped = publish_shard(store, "tokenize", "swapped", Made(files={TOKENS: other}, counts=shard.counts))
    shards = {slot: swapped if one == shard else one for slot, one in artifact.shards.items()}
    publish_artifact(store, replace(artifact, shards=shards))
    capsys.readouterr()
    assert run(["build", *corpus, "--set", "pipeline.examples.seed = 1", "--engine", "inline"]) == MISTAKE
    assert "a mixed cache" in capsys.readouterr().err


def test_explain_says_why_an_asset_is_in(corpus: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    uid = sample(3)[0].uid
    capsys.readouterr()
    assert run(["explain", uid, *corpus[:2], "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["uid"], row["outcome"], row["group"]) == (uid, "kept", uid)
    assert run(["explain", "acme:nobody", *corpus[:2]]) == MISTAKE


def test_a_corpus_can_be_on_s3(
    s3: Store, tmp_path: Path, deliveries: Deliveries, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "tiny.toml"
    file.write_text(TINY)
    uri = deliveries.write([sample(number) for number in range(8)])
    options = ["--config", str(file), "--engine", "inline"]
    for where in (s3.uri, str(tmp_path / "local")):
        words = ["ingest", uri, "--corpus", where, "--as-of", "2026-06-01T00:00:00Z", *options]
        assert run(words) == 0
    there, here = Corpus(s3).newest(), Corpus(Store.at(tmp_path / "local")).newest()
    assert there == here


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.filterwarnings(r"ignore::DeprecationWarning:ray\..*")
def test_two_ranks_whose_workers_make_batches_train_on_the_rows_of_one_process(
    corpus: list[str], tmp_path: Path
) -> None:
    """Of Ray Train: as many tokens in each step, and the loss that one process has, but for rounding."""
    told = {}
    for name, words in {
        "one": ["--engine", "inline"],
        "two": ["--workers", "2", "--set", "trainer.loader.workers = 1"],
    }.items():
        assert run(["train", "--run", str(tmp_path / name), *corpus, *words]) == 0
        lines = (tmp_path / name / "metrics.jsonl").read_text().splitlines()
        told[name] = [json.loads(line) for line in lines]
    assert [line["tokens"] for line in told["two"]] == [line["tokens"] for line in told["one"]]
    assert [line["loss"] for line in told["two"]] == pytest.approx(
        [line["loss"] for line in told["one"]], rel=1e-4
    )
