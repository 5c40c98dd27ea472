"""The token that shows a Ray cluster that we may. Ray reads its variables at import, so this comes first."""

from __future__ import annotations

import os
from pathlib import Path

MODE = "RAY_AUTH_MODE"


def token() -> str | None:
    """From where Ray keeps it: $RAY_AUTH_TOKEN, the file $RAY_AUTH_TOKEN_PATH, else ~/.ray/auth_token.

    ``None`` where there is none, or where tokens are switched off.
    """
    if os.environ.get(MODE, "token").lower() != "token":
        return None
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH", Path.home() / ".ray" / "auth_token"))
    found = os.environ.get("RAY_AUTH_TOKEN") or (path.read_text() if path.is_file() else "")
    return found.strip() or None


def show_token() -> None:
    """Show the token to a cluster that is named; Ray does so by itself only for one that it finds."""
    if token() is not None:
        os.environ[MODE] = "token"
