"""The learning curves of a run: as a page when it ends, and for TensorBoard while it goes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from infra.storage import LocalStore
from pipeline import pages
from pipeline.plots import COLORS, plot, series

PAGE = "curves.html"
EVENTS = "tensorboard"
Numbers = Sequence[Mapping[str, float]]


def write(folder: Path, reports: Numbers, facts: Mapping[str, Any]) -> Path:
    """One HTML file in the run's folder. ``facts``: name, steps, parameters, variant, dtype."""
    path = folder / PAGE
    shown = {"last": dict(reports[-1]), "plots": [one for one in plots(reports) if one["lines"]], **facts}
    html = pages.rendered_from(Path(__file__).parent, PAGE, shown)
    LocalStore(str(folder)).write(PAGE, html.encode())
    return path


def plots(reports: Numbers) -> list[dict[str, Any]]:
    names = sorted({name for report in reports for name in report})
    held_out = [name for name in names if "/loss" in name and not name.startswith("loss")]
    return [
        lines("Loss, nats a token", reports, ["loss", "loss/text", "loss/image"]),
        lines("Held out: image of the target", reports, starting(held_out, "loss/image/target")),
        lines("Held out: text of the target", reports, starting(held_out, "loss/text/target")),
        lines("Held out: by modality", reports, ending(held_out, ("loss/text", "loss/image"))),
        lines("By place in the document", reports, [name for name in names if name.startswith("loss/from/")]),
        lines("By what stands before", reports, [name for name in names if name.startswith("loss/image/")]),
        lines("What was masked", reports, [name for name in names if name.startswith("masks/")]),
        lines("Gradient before clipping", reports, ["gradient_norm"]),
        lines("Learning rate", reports, ["learning_rate"]),
        lines("Tokens a second", reports, ["speed/tokens_per_s"]),
        lines("Share of the time waiting for data", reports, ["speed/data_wait"]),
        lines("Share of the devices' peak (MFU)", reports, ["speed/mfu"]),
    ]


def starting(names: Sequence[str], part: str) -> list[str]:
    return [name for name in names if name.partition("/")[2].startswith(part)]


def ending(names: Sequence[str], parts: tuple[str, ...]) -> list[str]:
    return [name for name in names if name.partition("/")[2] in parts]


def lines(title: str, reports: Numbers, names: Sequence[str]) -> dict[str, Any]:
    found = {name: series(reports, name) for name in names[: len(COLORS)]}
    return plot(title, {name: line for name, line in found.items() if line})


def tensorboard(folder: Path, *, step: int) -> Callable[[Mapping[str, float]], None]:
    """Writes what is reported where ``tensorboard --logdir`` of the run's folder finds it. What lies behind
    ``step`` was lost with its process, and is hidden.
    """
    from tensorboardX import SummaryWriter  # noqa: PLC0415  # only a run pays for it

    writer = SummaryWriter(str(folder / EVENTS), purge_step=step + 1)

    def write_numbers(metrics: Mapping[str, float]) -> None:
        for name, value in metrics.items():
            if name != "step":
                writer.add_scalar(name, value, int(metrics["step"]))
        writer.flush()

    return write_numbers
