"""Commands that need nothing but storage and a cluster, mounted by name so that nothing heavy is imported."""

from __future__ import annotations

from cyclopts import App

from infra.options import ReadOptions, answer
from infra.telemetry import saved


def register(app: App) -> None:
    app.command("infra.commands:logs", name="logs", help="Events of the last command on a corpus.")
    app.command("infra.cluster:submit", name="submit", help="Run any command as a job on a Ray cluster.")


def logs(*, options: ReadOptions | None = None) -> None:
    """Show the events of the last command that worked on the corpus.

    Example: pardalis logs --corpus demo/corpus
    """
    options = options or ReadOptions()
    events = saved(options.open().store)
    lines = [" ".join(f"{key}={value}" for key, value in event.items()) for event in events]
    answer(events, "\n".join(lines), json=options.json)
