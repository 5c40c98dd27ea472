"""Commands that need nothing but a cluster, mounted by name so that nothing heavy is imported."""

from __future__ import annotations

from cyclopts import App


def register(app: App) -> None:
    app.command("infra.cluster:submit", name="submit", help="Run any command as a job on a Ray cluster.")
