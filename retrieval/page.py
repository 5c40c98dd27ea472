"""The search page as it is served: a fixed list of packaged files, and the policy that they run under.

The surprising rule: a name is looked up in that list before it is joined to a path, so no request reaches
another file. There is no build step: what lies in ``web/`` is what a browser is sent.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from importlib.resources import files
from types import MappingProxyType

INDEX = "index.html"
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_SCRIPTS: tuple[str, ...] = ("api", "ask", "detail", "door", "elements", "facts", "filters", "given")
_SCRIPTS += ("grid", "inspector", "layout", "page", "pictures", "start", "state", "views", "words")
_NAMES = (INDEX, "page.css", "icons.svg", "mark.svg", *(f"{name}.js" for name in _SCRIPTS))

FILES: Mapping[str, str] = MappingProxyType({name: _TYPES[name[name.rindex(".") :]] for name in _NAMES})
"""Media type of each file by its name."""

_POLICY = (
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "img-src 'self' blob: data:",
    "connect-src 'self'",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
    "require-trusted-types-for 'script'",  # a browser that knows it refuses innerHTML altogether
)
HEADERS: Mapping[str, str] = MappingProxyType(
    {
        "Content-Security-Policy": "; ".join(_POLICY),
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Cache-Control": "no-cache",  # an upgrade of the service never meets half of an older page
    }
)


@functools.cache
def read(name: str) -> bytes:
    """One of ``FILES``; KeyError for any other name."""
    if name not in FILES:
        raise KeyError(name)
    return (files("retrieval") / "web" / name).read_bytes()
