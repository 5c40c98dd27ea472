"""Compose the trainer's sections, and name the shapes of the paper's models (arXiv 2309.02591, Table 3)."""

from __future__ import annotations

from pydantic import Field

from infra.settings import Section
from trainer.admission import AdmissionSection
from trainer.loader import LoaderSection
from trainer.loop import LoopSection, Recipe
from trainer.model import ModelSection
from trainer.optimizer import OptimizerSection
from trainer.order import StreamSection
from trainer.sampler import SamplerSection
from trainer.sources import SourceSection
from trainer.spans import MaskingSection

SHAPES = {
    "20m": ModelSection(num_layers=6, width=512, num_heads=8),
    "125m": ModelSection(num_layers=12, width=768, num_heads=12),
    "350m": ModelSection(num_layers=24, width=1024, num_heads=16, context=4224),
    "760m": ModelSection(num_layers=24, width=1536, num_heads=16, context=4224),
    "7b": ModelSection(num_layers=32, width=4096, num_heads=32, context=4224),
}
"""Table 3 gives layers and width of the last three; heads are metaseq's. The paper's sequence of 4,096 tokens
does not hold four pairs; 4,224 is ours. The table's learning rates for them are 6e-4, 5e-4 and 1.2e-4, with
1,500 steps of warm-up and 8 Mi tokens an update."""


class TrainerConfig(Section):
    """``[trainer.*]`` of the run's file."""

    admission: AdmissionSection = AdmissionSection()
    """What the run declares; licences are held against it before the first step."""
    seed: int = Field(default=0, ge=0)
    """Draws the first weights; the stream has its own."""
    model: ModelSection = ModelSection()
    """The shape."""
    stream: StreamSection = StreamSection()
    """Order and size of the batches."""
    loader: LoaderSection = LoaderSection()
    """Who makes them, and how blocks are fetched; a resumed run may change it."""
    sources: dict[str, SourceSection] = Field(default_factory=dict)
    """Other corpora to draw rows from, by name; the run's own has weight 1."""
    masking: MaskingSection = MaskingSection()
    """What the CM3 objective cuts."""
    optimizer: OptimizerSection = OptimizerSection()
    """AdamW and its schedule."""
    loop: LoopSection = LoopSection()
    """Validation, checkpoints, numerics."""
    sampler: SamplerSection = SamplerSection()
    """Drawing."""

    def recipe(self, note: dict[str, object]) -> Recipe:
        """What :func:`trainer.loop.fit` reads; ``note`` is stored beside the configuration."""
        return Recipe(
            seed=self.seed,
            loop=self.loop,
            optimizer=self.optimizer,
            masking=self.masking,
            note={"config": self.model_dump(mode="json"), **note},
        )
