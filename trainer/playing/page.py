"""The page as it is served: a fixed list of packaged files, ours and those that the search page has already.

The surprising rule: it runs under the search page's own policy, and looks as that does by its style sheet.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from importlib.resources import files
from types import MappingProxyType

from starlette.responses import Response

from retrieval import page

INDEX = "index.html"
SHARED = ("page.css", "icons.svg", "mark.svg", "api.js", "door.js", "elements.js", "pictures.js", "words.js")
"""Of the search page."""
_SCRIPTS = ("boxes", "brush", "calls", "chooser", "controls", "job", "neighbors", "play", "results", "tabs")
OURS = ("play.css", *(f"{name}.js" for name in _SCRIPTS))
_JS, _CSS, _HTML = "text/javascript; charset=utf-8", "text/css; charset=utf-8", "text/html; charset=utf-8"
FILES: Mapping[str, str] = MappingProxyType(
    {INDEX: _HTML, **{name: page.FILES[name] for name in SHARED}}
    | {name: _CSS if name.endswith(".css") else _JS for name in OURS}
)
"""Media type of each file by its name."""


@functools.cache
def read(name: str) -> bytes:
    """One of ``FILES``; KeyError for any other name."""
    if name in SHARED:
        return page.read(name)
    if name not in FILES:
        raise KeyError(name)
    return (files("trainer.playing") / "web" / name).read_bytes()


def packaged(name: str) -> Response:
    return Response(read(name), media_type=FILES[name], headers=dict(page.HEADERS))
