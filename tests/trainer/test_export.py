import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoProcessor, ChameleonForConditionalGeneration

from infra.artifact import Artifact, Made, publish_artifact, publish_shard
from infra.cli import MISTAKE, run
from infra.corpus import Corpus
from infra.storage import Store
from pipeline.tokens import BPE, VQ
from tests.trainer.test_checkpoint import LIVE, STATE, saved
from tokenizer_service import text, vocabulary, vq
from tokenizer_service.vocabulary import Live
from trainer import export, folder
from trainer.checkpoint import Checkpoints
from trainer.config import TrainerConfig
from trainer.model import ModelSection, Transformer, initialise

MODERN = ModelSection(variant="modern", num_layers=1, width=16, num_heads=2, context=64)


def modern(run_folder: Path, live: Live = LIVE, section: ModelSection = MODERN) -> Transformer:
    """The model that a run of this section holds."""
    model = initialise(Transformer(section, live), seed=1)
    kept = Checkpoints(folder=run_folder)
    kept.save(model, torch.optim.AdamW(model.parameters()), state=replace(STATE, model=section, live=live))
    kept.wait()
    return model


def corpus(where: Path, bpe: text.TextTokenizer, image: vq.VQ) -> Corpus:
    """A corpus that has been built as far as its tokenizers."""
    made = Corpus(Store.at(where))
    models: Mapping[str, tuple[dict[str, bytes], dict[str, Any]]] = {
        "bpe": ({BPE: bpe.to_json().encode()}, {}),
        "vq": ({VQ: vq.save(image)}, {"side": 16}),
    }
    for step, (files, settings) in models.items():
        shards = {"all": publish_shard(made.store, step, "k", Made(files=files))}
        publish_artifact(
            made.store, Artifact(step=step, key="k", settings=settings, inputs={}, shards=shards)
        )
    with made.writing(purpose="test") as lease:
        made.publish(lease, made.head(), replace(made.head(), models=dict.fromkeys(models, "k")))
    return made


def test_exported_weights_make_the_same_model_again(tmp_path: Path) -> None:
    _, (model, _) = saved(tmp_path / "run")
    out = tmp_path / "models" / "first"
    assert run(["export", "--run", str(tmp_path / "run"), "--out", str(out)]) == 0
    config = json.loads((out / export.CONFIG).read_text())
    assert config["step"] == 7
    again = Transformer(ModelSection.model_validate(config["model"]), Live(**config["vocabulary"]))
    again.load_state_dict(load_file(out / export.MODEL))
    for name, weight in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], weight), name


def test_a_folder_without_a_checkpoint_and_a_place_that_is_taken_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["export", "--run", str(tmp_path / "run"), "--out", str(tmp_path)]
    assert run(words) == MISTAKE
    assert "holds no checkpoint" in capsys.readouterr().err
    saved(tmp_path / "run")
    assert run(words) == MISTAKE
    assert "which exists; name a folder that does not" in capsys.readouterr().err


def test_a_modern_run_is_exported_as_chameleon_without_tokenizers_where_no_corpus_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PARDALIS_CORPUS", raising=False)
    model, out = modern(tmp_path / "run"), tmp_path / "out"
    assert run(["export", "--run", str(tmp_path / "run"), "--out", str(out), "--layout", "chameleon"]) == 0
    assert not (out / "tokenizer.json").exists()
    assert json.loads((out / export.CONFIG).read_text())["pardalis"]["step"] == 7
    theirs = ChameleonForConditionalGeneration.from_pretrained(out)
    rows = theirs.get_input_embeddings().weight[: LIVE.text_stop]
    assert torch.equal(rows, model.tokens.weight[: LIVE.text_stop])


def test_the_files_of_a_corpus_tokenizers_stand_beside_the_weights(tmp_path: Path) -> None:
    bpe, image = text.fit(["a red car"] * 3, entries=270), vq.new(vq.VQConfig(), torch.Generator())
    live = Live(num_text=bpe.num_entries, num_codes=image.config.codebook_size)
    made = corpus(tmp_path / "corpus", bpe, image)
    modern(tmp_path / "run", live)
    version = replace(made.newest(), artifacts={"pack": "p"})
    folder.claim(tmp_path / "run", version, TrainerConfig(), folder.tokenizers(made, made.newest()))
    words = ["--run", str(tmp_path / "run"), "--out", str(tmp_path / "out"), "--layout", "chameleon"]
    assert run(["export", *words, "--corpus", str(tmp_path / "corpus")]) == 0
    processor = AutoProcessor.from_pretrained(tmp_path / "out")
    (entries,) = bpe.encode(["a red car"])
    ids = processor.tokenizer("a red car").input_ids
    assert ids == [vocabulary.EOS, *vocabulary.from_text(entries).tolist()]
    assert processor.image_seq_length == 4


def test_a_model_that_chameleon_cannot_express_is_refused_and_leaves_no_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    modern(tmp_path / "run", section=MODERN.model_copy(update={"image_places": 8}))
    out = tmp_path / "out"
    words = ["--run", str(tmp_path / "run"), "--out", str(out), "--layout", "chameleon"]
    assert run(["export", *words]) == MISTAKE
    assert "trainer.model.image_places is 8" in capsys.readouterr().err
    assert not out.exists()
