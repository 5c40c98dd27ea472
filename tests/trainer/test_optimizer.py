import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tokenizer_service.vocabulary import Live
from trainer import optimizer as optimizers
from trainer.model import ModelSection, Transformer, initialise
from trainer.optimizer import OptimizerSection, Spikes, learning_rate


@given(
    warmup=st.integers(0, 50),
    rest=st.integers(1, 200),
    share=st.floats(0, 1),
    decay=st.sampled_from(["cosine", "polynomial"]),
)
def test_the_rate_rises_to_the_peak_and_falls_to_the_final_share(
    warmup: int, rest: int, share: float, decay: str
) -> None:
    section = OptimizerSection.model_validate(
        {"num_steps": warmup + rest, "warmup_steps": warmup, "final_share": share, "decay": decay}
    )
    rates = [learning_rate(section, step) for step in range(warmup + rest + 1)]
    assert rates[:warmup] == sorted(rates[:warmup])
    assert rates[warmup:] == sorted(rates[warmup:], reverse=True)
    assert rates[warmup] == pytest.approx(section.learning_rate)
    assert rates[-1] == pytest.approx(section.learning_rate * share, abs=1e-12)
    assert learning_rate(section, 10 * (warmup + rest)) == pytest.approx(rates[-1], abs=1e-12)


def test_a_warmup_as_long_as_the_schedule_is_refused() -> None:
    with pytest.raises(ValidationError, match="warmup_steps 10 leaves nothing of num_steps 10"):
        OptimizerSection(num_steps=10, warmup_steps=10)


def small_model() -> Transformer:
    section = ModelSection(num_layers=1, width=16, num_heads=2, context=8, image_places=4)
    return initialise(Transformer(section, Live(num_text=8, num_codes=8)), seed=0)


def test_only_weights_that_multiply_decay() -> None:
    model = small_model()
    section = OptimizerSection(learning_rate=0.5, num_steps=10, warmup_steps=0, weight_decay=0.1)
    optimizer = optimizers.build(model, section)
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    for weight in model.parameters():
        weight.grad = torch.zeros_like(weight)
    optimizers.update(optimizer, section, step=0)
    for name, weight in model.named_parameters():
        factor = 1.0 if name.startswith(("positions", "places")) else 0.95
        assert torch.allclose(weight, before[name] * factor), name


def test_an_update_clips_the_gradient_reports_its_length_and_drops_it() -> None:
    model = small_model()
    section = OptimizerSection(learning_rate=1e-3, num_steps=10, warmup_steps=0, clip_norm=1.0)
    optimizer = optimizers.build(model, section)
    for weight in model.parameters():
        weight.grad = torch.ones_like(weight)
    count = sum(weight.numel() for weight in model.parameters())
    norm = optimizers.clip(optimizer, section)
    optimizers.update(optimizer, section, step=0)
    assert norm == pytest.approx(count**0.5, rel=1e-4)
    assert all(weight.grad is None for weight in model.parameters())
    first_moment = optimizer.state[model.tokens.weight]["exp_avg"]
    assert first_moment.max().item() == pytest.approx(0.1 * count**-0.5, rel=1e-3)


def test_a_spike_is_far_above_the_mean_once_the_warmup_is_over() -> None:
    section = OptimizerSection(num_steps=100, warmup_steps=2, spike_ratio=2.0)
    spikes = Spikes().after(9.0).after(4.0)
    assert spikes.mean == pytest.approx(8.9)
    assert not spikes.is_spike(30.0, section, step=1)
    assert spikes.is_spike(17.9, section, step=2)
    assert not spikes.is_spike(17.7, section, step=2)
    assert not spikes.is_spike(99.0, section.model_copy(update={"spike_ratio": None}), step=2)
    skipped = spikes.past(section, step=2, why="")
    assert (skipped.mean, skipped.skipped, skipped.in_a_row) == (spikes.mean, 1, 1)
    assert (skipped.after(4.0).skipped, skipped.after(4.0).in_a_row) == (1, 0)


def test_a_run_that_only_skips_has_diverged() -> None:
    section = OptimizerSection(num_steps=100, warmup_steps=0, most_skipped=3)
    spikes = Spikes().after(1.0)
    for step in range(3):
        spikes = spikes.past(section, step=step, why="the loss is 5")
    with pytest.raises(
        FloatingPointError, match="step 4: the loss is 5, and 3 steps before it were skipped too"
    ):
        spikes.past(section, step=3, why="the loss is 5")
