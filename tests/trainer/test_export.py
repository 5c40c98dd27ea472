import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from infra.cli import MISTAKE, run
from tests.trainer.test_checkpoint import saved
from tokenizer_service.vocabulary import Live
from trainer import export
from trainer.model import ModelSection, Transformer


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
