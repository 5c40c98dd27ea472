"""Compose the trainer's sections. The paper's models, and smaller ones, are in ``infra/configs``."""

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
