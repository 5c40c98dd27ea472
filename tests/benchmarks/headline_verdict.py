"""What the curves of ``bench_headline`` say, in figures, in words, on a page and in a picture.

The surprising rule: a loss that a curve never comes down to has no ratio. Nothing is extrapolated.
"""

from __future__ import annotations

import io
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import jinja2
from PIL import Image, ImageDraw, ImageFont

from pipeline import pages
from pipeline.plots import HEIGHT, WIDTH, plot

Curve = Sequence[tuple[float, float]]
"""What training cost, and the held-out loss that it brought; by cost."""
TARGETS = {
    "image": ("alone/loss/image/target_0", "neighbors/loss/image/target_2"),
    "caption": ("alone/loss/text/target_0", "neighbors/loss/text/target_2"),
}
"""Names that validation gives the losses of held-out targets, alone and behind two neighbors."""
COSTS = {"flops": "compute", "target_tokens": "target tokens"}
WAYS = {
    "trained without neighbors": ("alone", 0),
    "trained with neighbors, two shown": ("neighbors", 1),
    "trained with neighbors, none shown": ("neighbors", 0),
    "trained with strangers, none shown": ("strangers", 0),
    "trained with strangers, two strangers shown": ("strangers", 1),
    "trained without neighbors, two shown": ("alone", 1),
}
"""Which arm, and which of the two losses."""
SHOWN = tuple(WAYS)[:4]
"""In the plots. The last is lost in a document of three pairs, which it was never shown."""
BASELINES = {"without neighbors": SHOWN[0], "with strangers": SHOWN[3]}
"""What the second way is held against, by how that was trained."""


def best(curve: Curve) -> tuple[float, float]:
    """Where a curve is lowest, and how low."""
    return min(curve, key=lambda point: point[1])


def reached(curve: Curve, loss: float) -> float | None:
    """Where a curve first comes down to a loss, on the line between two of its points; None: it never does.

    >>> reached([(1, 4.0), (2, 3.0), (3, 2.5)], 3.5), reached([(1, 4.0), (2, 3.0)], 2.9)
    (1.5, None)
    """
    if curve[0][1] <= loss:
        return float(curve[0][0])  # at the latest: it was not measured before
    for (x, y), (next_x, next_y) in pairwise(curve):
        if next_y <= loss:
            return x + (next_x - x) * (y - loss) / (y - next_y)
    return None


def at(curve: Curve, x: float) -> float:
    """The loss at a cost within the curve, on the line between two of its points."""
    for (left, y), (right, next_y) in pairwise(curve):
        if left <= x <= right:
            return y + (next_y - y) * (x - left) / (right - left)
    raise ValueError(f"{x} is not between {curve[0][0]} and {curve[-1][0]}, where the curve was measured")


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Of one seed: a way of training against a baseline."""

    ratio: float | None
    """The baseline's cost of its best loss, over what that loss costs the other; None: never reached."""
    reverse: float | None
    """What the other's best loss costs the baseline, over what it cost the other; None: never reached."""
    gap: float
    """The other's loss less the baseline's, at the most that both were given."""

    @staticmethod
    def of(baseline: Curve, other: Curve) -> Comparison:
        (cost, loss), (other_cost, other_loss) = best(baseline), best(other)
        reached_at, passed_at = reached(other, loss), reached(baseline, other_loss)
        last = min(baseline[-1][0], other[-1][0])
        return Comparison(
            ratio=None if reached_at is None else cost / reached_at,
            reverse=None if passed_at is None else passed_at / other_cost,
            gap=at(other, last) - at(baseline, last),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the seeds say together."""

    ratios: tuple[float | None, ...]
    reverses: tuple[float | None, ...]
    gaps: tuple[float, ...]

    @staticmethod
    def of(found: Sequence[Comparison]) -> Verdict:
        columns = zip(*((one.ratio, one.reverse, one.gap) for one in found), strict=True)
        ratios, reverses, gaps = columns
        return Verdict(ratios=ratios, reverses=reverses, gaps=gaps)

    @property
    def ratio(self) -> float | None:
        """The mean, where every seed came to its baseline's best."""
        known = [one for one in self.ratios if one is not None]
        return round(statistics.fmean(known), 3) if len(known) == len(self.ratios) else None

    def figures(self) -> dict[str, Any]:
        told = {name: [one and round(one, 4) for one in values] for name, values in asdict(self).items()}
        return {"ratio": self.ratio, **told}

    def text(self, what: str, against: str) -> str:
        """Two sentences."""
        gap, side = statistics.fmean(self.gaps), "higher" if statistics.fmean(self.gaps) > 0 else "lower"
        return (
            f"{what.capitalize()}, against training {against}: {self._bought()}. At equal compute the loss "
            f"behind two neighbors is {abs(gap):.3f} nats a token {side} "
            f"({', '.join(f'{one:+.3f}' for one in self.gaps)})."
        )

    def _bought(self) -> str:
        known = [one for one in self.ratios if one is not None]
        if len(known) < len(self.ratios):
            return (
                "retrieval bought no compute; the other's best loss was reached in "
                f"{len(known)} of {len(self.ratios)} seeds, so there is no ratio"
            )
        average = statistics.fmean(known)
        told = f"a ratio of {average:.2f} ({', '.join(f'{one:.2f}' for one in known)} by seed)"
        if min(known) > 1:
            return f"the other's best loss took less compute with neighbors, {told}"
        if max(known) < 1:
            return f"the other's best loss took more compute with neighbors, {told}"
        return f"the seeds do not agree whether retrieval buys compute, {told}"


def curves(found: Mapping[str, Any], way: str, what: str, cost: str = "flops") -> list[Curve]:
    """Of each seed."""
    arm, which = WAYS[way]
    scale, name = found["cost"][arm][cost], TARGETS[what][which]
    return [
        [(point["step"] * scale, point[name]) for point in one["points"]]
        for one in found["runs"]
        if one["arm"] == arm
    ]


def verdict(
    found: Mapping[str, Any], what: str, *, cost: str = "flops", against: str = "without neighbors"
) -> Verdict:
    """Seed by seed, the same seed against the same."""
    baseline, behind = (curves(found, way, what, cost) for way in (BASELINES[against], SHOWN[1]))
    return Verdict.of([Comparison.of(*pair) for pair in zip(baseline, behind, strict=True)])


def mean(found: Sequence[Curve]) -> list[tuple[float, float]]:
    """Of curves that were measured at the same costs."""
    return [(points[0][0], statistics.fmean(y for _, y in points)) for points in zip(*found, strict=True)]


def summary(found: Mapping[str, Any]) -> dict[str, Any]:
    """The figures of the page, for the line of results."""
    return {
        "verdicts": {
            f"{what}, by {counted}, against training {against}": verdict(
                found, what, cost=cost, against=against
            ).figures()
            for what in TARGETS
            for against in BASELINES
            for cost, counted in COSTS.items()
        },
        "ends": ends(found),
        "words": [
            verdict(found, what, against=against).text(what, against)
            for what in TARGETS
            for against in BASELINES
        ],
    }


def ends(found: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """By way of training, or mixture, the last losses of image and caption: mean, least and most of seeds."""
    told: dict[str, dict[str, Any]] = {}
    for way in WAYS:
        told[way] = {}
        for what in TARGETS:
            last = [curve[-1][1] for curve in curves(found, way, what)]
            told[way][what] = {"mean": round(statistics.fmean(last), 4), "low": min(last), "high": max(last)}
    return told | {name: {"image": {"mean": loss}} for name, loss in mixtures(found).items()}


def mixtures(found: Mapping[str, Any]) -> dict[str, float]:
    """What copying and counting come to, best first."""
    losses = {name: one["loss"] for name, one in found["baselines"]["losses"].items()}
    return dict(sorted(losses.items(), key=lambda one: one[1]))


def by_provider(found: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """In the ways that are shown, the last loss of each corpus's held-out images: means of the seeds."""
    return {
        way: {
            name: statistics.fmean(
                run["by_provider"][name]["images"][which] for run in found["runs"] if run["arm"] == arm
            )
            for name in found["runs"][0]["by_provider"]
        }
        for way, (arm, which) in WAYS.items()
        if way in SHOWN
    }


def plots(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One of the whole budget beside copying; the others begin later, or nothing would be seen to differ."""
    whole = {way: mean(curves(found, way, "image")) for way in SHOWN}
    right = max(line[-1][0] for line in whole.values())
    levels = {name: [(0.0, loss), (right, loss)] for name, loss in mixtures(found).items()}
    return [
        scaled("Image tokens, beside copying", {**whole, **levels}, "flops"),
        *(
            scaled(f"{what.capitalize()} tokens", late(found, what, cost), cost)
            for what in TARGETS
            for cost in COSTS
        ),
    ]


def late(found: Mapping[str, Any], what: str, cost: str) -> dict[str, list[tuple[float, float]]]:
    """From a fifth of the cost on."""
    lines = {way: mean(curves(found, way, what, cost)) for way in SHOWN}
    start = max(line[-1][0] for line in lines.values()) / 5
    return {way: [point for point in line if point[0] >= start] for way, line in lines.items()}


def scaled(title: str, lines: Mapping[str, Sequence[tuple[float, float]]], cost: str) -> dict[str, Any]:
    size, unit = {"flops": (1e12, "TFLOP"), "target_tokens": (1e6, "M tokens of targets")}[cost]
    told = {name: [(x / size, y) for x, y in line] for name, line in lines.items()}
    return {**plot(title, told), "unit": unit}


def page(found: Mapping[str, Any]) -> str:
    """HTML that stands alone."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([Path(__file__).parent, Path(pages.__file__).parent]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(number=pages.number, percent=pages.percent)
    return environment.get_template("headline.html").render(
        found=found,
        plots=plots(found),
        steps=max(point["step"] for one in found["runs"] for point in one["points"]),
        corpora=by_provider(found),
        **summary(found),
    )


def picture(found: Mapping[str, Any]) -> bytes:
    """PNG of two of the plots, in few colours: lines and letters need no more."""
    _, image, _, caption, _ = plots(found)
    sink = io.BytesIO()
    drawn([image, caption]).quantize(64).save(sink, "PNG", optimize=True)
    return sink.getvalue()


SCALE, TEXT, LEGEND = 3, 13, 68
"""Pixels of a unit of a plot before the picture is halved, of letters, and the room of a legend below."""


def drawn(shown: Sequence[Mapping[str, Any]]) -> Image.Image:
    """Plots side by side."""
    sheet = Image.new("RGB", (SCALE * WIDTH * len(shown), SCALE * (HEIGHT + LEGEND)), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(SCALE * TEXT)
    for number, one in enumerate(shown):
        left = number * WIDTH

        def say(x: float, y: float, words: str, color: str, left: int = left) -> None:
            pen.text((SCALE * (left + x), SCALE * y), words, fill=color, font=font, anchor="lm")

        say(10, 16, f"{one['title']}, held out: nats over {one['unit']} of training", "#1f2328")
        say(4, 48, f"{one['top']:.2f}", "#59636e")
        say(4, HEIGHT - 48, f"{one['bottom']:.2f}", "#59636e")
        say(48, HEIGHT - 30, "0", "#59636e")
        say(WIDTH - 80, HEIGHT - 30, f"{one['right']:.3g} {one['unit']}", "#59636e")
        for place, line in enumerate(one["lines"]):
            pairs = (pair.split(",") for pair in line["points"].split())
            points = [(SCALE * (left + float(x)), SCALE * float(y)) for x, y in pairs]
            pen.line(points, fill=line["color"], width=2 * SCALE, joint="curve")
            say(48, HEIGHT - 8 + 18 * place, line["name"], line["color"])
    half = (sheet.width // 2, sheet.height // 2)
    return sheet.resize(half, Image.Resampling.LANCZOS)
