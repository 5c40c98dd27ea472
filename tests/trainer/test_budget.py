import pytest
import torch

from pipeline import reading
from pipeline.reading import CONFIGS
from tokenizer_service import vocabulary
from tokenizer_service.vocabulary import Live
from trainer import budget
from trainer.config import TrainerConfig
from trainer.meter import peak_flops
from trainer.model import ModelSection

SIZES = {
    "small-20m": 20,
    "small-125m": 125,
    "cm3leon-350m": 350,
    "cm3leon-760m": 760,
    "cm3leon-7b": 6730,
}
WHOLE = Live(num_text=vocabulary.MAX_TEXT, num_codes=vocabulary.MAX_CODES)


def shape(name: str) -> ModelSection:
    path = CONFIGS / f"{name}.toml"
    return reading.validated(TrainerConfig, reading.read(path).values["trainer"], str(path)).model


@pytest.mark.parametrize("name", SIZES)
def test_a_configuration_has_the_size_of_its_name(name: str) -> None:
    """Without embeddings below 350M, as such models are counted; their tables are larger than they are."""
    section = shape(name)
    count = budget.num_parameters(section, WHOLE)
    if SIZES[name] < 350:
        count -= (WHOLE.rows + (section.variant == "paper") * section.context) * section.width
        assert count / 1e6 == pytest.approx(SIZES[name], rel=0.35)
    else:
        assert count / 1e6 == pytest.approx(SIZES[name], rel=0.08)


def test_the_largest_model_is_built_without_memory() -> None:
    model = budget.meta(shape("cm3leon-7b"), WHOLE)
    assert all(weight.device == torch.device("meta") for weight in model.parameters())
    assert budget.num_parameters(shape("cm3leon-7b"), WHOLE) / 1e9 == pytest.approx(6.73, rel=0.01)


@pytest.mark.parametrize(
    ("name", "flops"), [("cm3leon-350m", 2.8e9), ("cm3leon-760m", 5.6e9), ("cm3leon-7b", 4.35e10)]
)
def test_arithmetic_a_token_is_that_derived_from_the_paper(name: str, flops: float) -> None:
    """cm3leon.md, section 6.1."""
    assert budget.flops_per_token(shape(name), WHOLE) == pytest.approx(flops, rel=0.04)


def test_sharding_divides_what_each_weight_takes() -> None:
    alone, shared = (
        budget.of(shape("cm3leon-7b"), WHOLE, ranks=64, rows=64, sharded=sharded, recomputes=True)
        for sharded in (False, True)
    )
    assert alone.bytes_per_rank["weights"] == 4 * alone.parameters
    assert "does not fit 80 GB" in alone.told(shape("cm3leon-7b"), ranks=64)
    assert "does not fit 80 GB" not in shared.told(shape("cm3leon-7b"), ranks=64)
    assert shared.bytes_per_rank["moments"] == alone.bytes_per_rank["moments"] // 64
    assert shared.tokens_per_s["H100"] == pytest.approx(0.4 * 64 * 989e12 / shared.flops_per_token)
    assert "memory a rank" in shared.told(shape("cm3leon-7b"), ranks=64)


def test_a_modern_model_is_as_large_as_the_papers() -> None:
    sizes = [
        budget.num_parameters(shape("cm3leon-350m").model_copy(update={"variant": variant}), WHOLE)
        for variant in ("paper", "modern")
    ]
    assert sizes[1] == pytest.approx(sizes[0], rel=0.03)


@pytest.mark.parametrize(("name", "peak"), [("NVIDIA H100 80GB HBM3", 989e12), ("Tesla T4", None)])
def test_the_peak_of_a_device_is_found_by_its_name(name: str, peak: float | None) -> None:
    assert peak_flops(name) == peak
