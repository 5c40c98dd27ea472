from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.trainer import models
from trainer import blocked, quantized
from trainer.blocked import Blocked
from trainer.decoding import Decoder
from trainer.prompts import UNCONDITIONAL

pytestmark = pytest.mark.skipif(
    not blocked.gains(torch.zeros(1)), reason="this PyTorch has no oneDNN, so nothing is laid out"
)


@pytest.mark.parametrize("rows", [1, 2, 16, 65])
@pytest.mark.parametrize("shape", [(8, 24), (64, 192), (192, 8)])
@torch.inference_mode()
def test_a_product_is_that_of_the_linear_layer_at_any_number_of_rows(
    rows: int, shape: tuple[int, int]
) -> None:
    linear = nn.Linear(*shape, bias=False)
    laid_out = Blocked(linear.weight, num_rows=16)
    x = torch.randn(rows, 1, shape[0])
    torch.testing.assert_close(laid_out(x), linear(x), rtol=1e-5, atol=1e-5)


@torch.inference_mode()
def test_only_linear_layers_are_copied_and_the_model_stays_as_it_is() -> None:
    model = models.random(variant="modern", image_places=8, lookup_rows=500)
    laid_out = blocked.blocked(model, 4)
    mine = {name: id(one) for name, one in model.named_parameters()}
    theirs = {name: id(one) for name, one in laid_out.named_parameters()}
    assert theirs
    assert theirs.items() < mine.items()
    assert all(isinstance(one, nn.Linear) for one in (model.blocks[0].qkv, model.blocks[0].down))
    assert not any(isinstance(one, nn.Linear) for one in laid_out.modules())
    hidden_BD = torch.randn(4, model.section.width)
    torch.testing.assert_close(blocked.image_head(model, 4)(hidden_BD), model.image_logits(hidden_BD))


@pytest.mark.parametrize("engine", ["eager", "compile"])
def test_a_step_by_itself_reads_blocked_weights_and_a_graph_the_models_own(engine: str) -> None:
    model = models.random(variant="modern")
    decoder = Decoder.start(model, [UNCONDITIONAL], num_new=2, engine=engine)  # type: ignore[arg-type]
    assert any(isinstance(one, Blocked) for one in decoder.modules()) == (engine == "eager")


def test_halved_weights_stay_as_they_are() -> None:
    model = quantized.ready(models.random(variant="modern"), "bfloat16")
    assert blocked.blocked(model, 4) is model
    assert blocked.image_head(model, 4) == model.image_logits
