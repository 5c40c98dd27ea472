"""What the page may ask for: one form a tab, checked field by field, and the command that asks the same.

The surprising rule: a wish becomes the options of ``pardalis sample`` first, and these are what is done. So
the command that the page tells is the thing itself, and no retelling.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StringConstraints, TypeAdapter, ValidationError, model_validator

from infra.serving.refusal import Refusal
from infra.settings import Section
from trainer.instruct.scenes import GRID
from trainer.sampler import SamplerSection
from trainer.sampling import NEIGHBORS, DrawOptions, TaskOptions

MAX_SAMPLES, MAX_NEIGHBORS, MAX_THINGS = 8, NEIGHBORS, 8
MAX_WITHOUT = 32
"""Neighbors that were switched off, those of other words among them."""
MAX_TEXT = 1000
"""Characters."""
MAX_SEED = 2**53 - 1
"""What a page can say exactly."""
Place = Callable[[str], Path]
"""Where a picture lies, by the name that it has here."""


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("write it in one line, without control characters")
    return text


Text = Annotated[
    str, StringConstraints(strip_whitespace=True, max_length=MAX_TEXT), AfterValidator(_printable)
]
Words = Annotated[Text, StringConstraints(strip_whitespace=True, min_length=1)]
Name = Annotated[str, StringConstraints(max_length=64)]


class Settings(Section):
    """Of ``[trainer.sampler]``, those that a page changes; None is as the run has it."""

    temperature: float | None = Field(default=None, ge=0.0, le=10.0)
    top_p: float | None = Field(default=None, gt=0.0, le=1.0)
    guidance: float | None = Field(default=None, ge=1.0, le=50.0)
    image_guidance: float | None = Field(default=None, ge=0.0, le=50.0)
    text_guidance: float | None = Field(default=None, ge=0.0, le=50.0)
    max_text_tokens: int | None = Field(default=None, ge=1, le=512)

    def overrides(self, section: SamplerSection) -> tuple[str, ...]:
        """Lines of TOML for what is otherwise than it is."""
        told = self.model_dump(exclude_none=True)
        return tuple(
            f"trainer.sampler.{name} = {value}"
            for name, value in told.items()
            if value != getattr(section, name)
        )


class Wish(Section):
    seed: int = Field(default=0, ge=0, le=MAX_SEED)
    settings: Settings = Settings()

    def options(self, place: Place) -> TaskOptions:
        raise NotImplementedError

    def drawing(self) -> DrawOptions:
        """``out`` is left open."""
        return DrawOptions(seed=self.seed)


class Sampled(Wish):
    samples: int = Field(default=1, ge=1, le=MAX_SAMPLES)

    def drawing(self) -> DrawOptions:
        return DrawOptions(seed=self.seed, samples=self.samples)


class Near(Wish):
    """With neighbors."""

    neighbors: int = Field(default=MAX_NEIGHBORS, ge=0, le=MAX_NEIGHBORS)
    without: list[Annotated[str, StringConstraints(max_length=300), AfterValidator(_printable)]] = Field(
        default=[], max_length=MAX_WITHOUT
    )

    def drawing(self) -> DrawOptions:
        return replace(super().drawing(), neighbors=self.neighbors, without=tuple(self.without))


class Draw(Near, Sampled):
    task: Literal["draw"]
    text: Words

    def options(self, place: Place) -> TaskOptions:  # noqa: ARG002  # it has no picture
        return TaskOptions(text=self.text)

    def drawing(self) -> DrawOptions:
        return replace(super().drawing(), best=True)


class Edit(Sampled):
    task: Literal["edit"]
    image: Name
    instruction: Words

    def options(self, place: Place) -> TaskOptions:
        return TaskOptions(image=place(self.image), edit=self.instruction)


class Ask(Wish):
    task: Literal["ask"]
    image: Name
    question: Words

    def options(self, place: Place) -> TaskOptions:
        return TaskOptions(image=place(self.image), ask=self.question)


class Caption(Near):
    task: Literal["caption"]
    image: Name
    long: bool = False
    """Told without neighbors, whatever is said of them."""

    def options(self, place: Place) -> TaskOptions:
        image = place(self.image)
        if self.long:
            return TaskOptions(task_name="long-caption", given=(f"image={image}",))
        return TaskOptions(image=image)


Side = Annotated[int, Field(ge=0, le=GRID)]


class Thing(Section):
    name: Words
    x0: Side
    y0: Side
    x1: Side
    y1: Side

    @model_validator(mode="after")
    def _holds_something(self) -> Thing:
        if not (self.x0 < self.x1 and self.y0 < self.y1):
            raise ValueError("draw a box that is at least one pixel wide and high")
        return self

    @property
    def text(self) -> str:
        return f"{self.name} at ({self.x0}, {self.y0}) -> ({self.x1}, {self.y1})"


class Ground(Sampled):
    task: Literal["ground"]
    caption: Words
    things: list[Thing] = Field(min_length=1, max_length=MAX_THINGS)

    def options(self, place: Place) -> TaskOptions:  # noqa: ARG002  # it has no picture
        things = ", ".join(thing.text for thing in self.things)
        return TaskOptions(task_name="grounded", given=(f"caption={self.caption}", f"things={things}"))

    def drawing(self) -> DrawOptions:
        return replace(super().drawing(), best=True)


class Infill(Near, Sampled):
    task: Literal["infill"]
    image: Name
    mask: Name
    text: Text = ""

    def options(self, place: Place) -> TaskOptions:
        return TaskOptions(image=place(self.image), mask=place(self.mask), text=self.text or None)


Form = Draw | Edit | Ask | Caption | Ground | Infill
FORMS: TypeAdapter[Form] = TypeAdapter(Annotated[Form, Field(discriminator="task")])


def parsed(told: object) -> Form:
    """422 names the field, its value and what is wrong with it."""
    try:
        return FORMS.validate_python(told)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"][1:]) or "task"
        raise Refusal(
            422, f"{where} is wrong", value=first["input"], fix=first["msg"].removeprefix("Value error, ")
        ) from None
