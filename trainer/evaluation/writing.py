"""Text on signs: what was asked for, and what an OCR reads off what was drawn.

The surprising rule: the OCR reads the true signs too, as they are and behind the tokenizer. Where it fails
there, no model can do better.
"""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.colors import Pixels
from pipeline.scorers.watermark import folded
from trainer.evaluation import again, texts
from trainer.evaluation.bench import ALONE, Bench, others, picture_of
from trainer.evaluation.judged import CEILING, CHANCE, COPY, MODEL, SHOWN, Judged, Measure, Shown, nothing
from trainer.instruct import reading
from trainer.instruct.reading import Reader
from trainer.sampler import Request
from trainer.tasks import Written


def signs(bench: Bench) -> Judged:
    items = bench.items(Written)
    if not items or bench.reader is None:
        return nothing("Text on signs", reading.missing() or "no held-out sign was made")
    reader = bench.reader
    trained = bench.known.trained(Written)
    true = [picture_of(item, "image") for item in items]
    asked = [item.record.text for item in items]
    known_texts = [one.record.text for one in trained]
    near = [trained[int(texts.distances(text, known_texts).argmin())] for text in asked] if trained else []
    drawn = {
        MODEL: bench.draw("sign", [Request(prompt=bench.prompt(item)) for item in items]),
        **({COPY: bench.remembered([one.record.image.uid for one in near])} if near else {}),
        CEILING: bench.through(true),
        "true picture as it is": true,
    }
    read = {who: all_read(bench, reader, each) for who, each in drawn.items()}
    read = {MODEL: read[MODEL], CHANCE: by_chance(bench, reader, true, read[CEILING]), **read}
    accuracy, exact = (
        {who: [score(*pair) for pair in zip(each, asked, strict=True)] for who, each in read.items()}
        for score in (letters_right, same_text)
    )
    return Judged(
        title="Text on signs",
        about=(
            "What PP-OCRv4 reads off the drawn sign, letters and digits alone, against the text asked for: "
            "1 - character error rate, at least 0. Chance: the sign of another held-out text. Copy: the "
            "sign of the training text fewest letters away. Ceiling: the true sign behind the tokenizer. No "
            f"text of these is in training. {ALONE}"
        ),
        measures=[
            Measure(name="characters right", scores=accuracy),
            Measure(name="whole text right", scores=exact),
        ],
        tables=[again.duplicates(bench, drawn, task=Written, first=[one.record.image.uid for one in near])],
        shown=[
            Shown(
                said={
                    "asked for": bench.said(asked[i], item.sources),
                    f"read, {MODEL}": read[MODEL][i],
                    **({f"read, {COPY}": bench.said(read[COPY][i], near[i].sources)} if near else {}),
                },
                pictures={
                    MODEL: drawn[MODEL][i],
                    **({COPY: bench.shown(drawn[COPY][i], near[i].sources)} if near else {}),
                    "true": bench.shown(true[i], item.sources),
                },
            )
            for i, item in enumerate(items[:SHOWN])
        ],
    )


def by_chance(bench: Bench, reader: Reader, true: Sequence[Pixels], read: Sequence[str]) -> list[str]:
    """What was read off another true sign; with one item, off a training picture."""
    if len(read) == 1:
        return all_read(bench, reader, bench.chance(true, [0], "sign"))
    return [read[i] for i in others(len(read), bench.rng("chance", "sign"))]


def all_read(bench: Bench, reader: Reader, drawn: Sequence[Pixels]) -> list[str]:
    """A picture takes 0.4 s of one core."""
    found = []
    with bench.log.bar("reading", total=len(drawn), unit="signs") as bar:
        for picture in drawn:
            found.append(reader.read(picture))
            bar.advance(1)
    return found


def letters_right(read: str, true: str) -> float:
    """Of letters and digits, in capitals: the reader tells no more."""
    return texts.character_accuracy(folded(read).upper(), folded(true).upper())


def same_text(read: str, true: str) -> float:
    return float(reading.same(read, true))
