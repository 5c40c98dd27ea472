"""Compose the trainer's sections. The paper's models, and smaller ones, are in ``infra/configs``."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from infra.settings import Section
from trainer.admission import AdmissionSection
from trainer.instruct.build import InstructSection
from trainer.loader import LoaderSection
from trainer.loop import LoopSection, Recipe
from trainer.model import ModelSection
from trainer.optimizer import OptimizerSection
from trainer.order import StreamSection
from trainer.sampler import SamplerSection
from trainer.sources import SourceSection
from trainer.spans import MaskingSection


class BaseSection(Section):
    """``[trainer.base]``: the run whose weights a tuned one begins with; `pardalis tune` writes it."""

    folder: str
    """Of the run."""
    identity: str
    """Of the run: who saw its data has seen it through these weights too."""
    checkpoint: str
    """Name of its checkpoint."""

    @property
    def path(self) -> Path:
        return Path(self.folder) / self.checkpoint


class TrainerConfig(Section):
    """``[trainer.*]`` of the run's file."""

    base: BaseSection | None = None
    """Where the first weights come from; none: they are drawn."""

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
    instruct: InstructSection = InstructSection()
    """What `pardalis instruct make` makes of a corpus."""
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
            weights=None if self.base is None else self.base.path,
            loop=self.loop,
            optimizer=self.optimizer,
            masking=self.masking,
            note={"config": self.model_dump(mode="json"), **note},
        )
