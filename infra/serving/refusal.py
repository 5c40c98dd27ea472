"""How the service says no: a status, and JSON that tells what is wrong, the value, and what to do."""

from __future__ import annotations

import math

from starlette.responses import JSONResponse

from infra.redaction import masked_here

MAX_CHARS = 200
"""Of a value that is repeated to its sender."""


class Refusal(Exception):
    """A request that is not served. Nothing of it went to the model."""

    def __init__(
        self, status: int, error: str, *, value: object = "", fix: str, retry_after_s: float | None = None
    ) -> None:
        super().__init__(status, error, value, fix)
        self.status = status
        self.error = error
        self.value = shown(value)
        self.fix = fix
        self.retry_after_s = retry_after_s

    def response(self) -> JSONResponse:
        headers = {}
        if self.retry_after_s is not None:
            headers["Retry-After"] = str(max(1, math.ceil(self.retry_after_s)))
        if self.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        told = {"error": self.error, "value": self.value, "fix": self.fix}
        return JSONResponse(told, self.status, headers=headers)


def shown(value: object) -> str:
    """Printable and short, whatever the sender wrote."""
    text = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in str(value)[:MAX_CHARS])
    return masked_here(text)
