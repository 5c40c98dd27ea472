"""HTML pages that stand alone: one file without scripts or outside references, which opens from disk.

What people wrote is escaped, and a policy in the page forbids whatever an escape may have missed.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2

from infra.options import placed
from infra.storage import LocalStore

OWN = Path(__file__).parent


def place(out: Path) -> Path:
    """A page's place, looked at before the work that makes it: an HTML file in a folder that exists."""
    return placed(out, "an HTML file", ".html", ".htm")


def write(out: Path, template: str, **shown: Any) -> None:
    LocalStore(str(out.parent)).write(out.name, rendered(template, **shown).encode())


def rendered(template: str, **shown: Any) -> str:
    return rendered_from(OWN, template, shown)


def rendered_from(folder: Path, template: str, shown: Mapping[str, Any]) -> str:
    """A template of another folder, which may lean on those that lie here."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([OWN, folder]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(number=number, percent=percent)
    return environment.get_template(template).render(shown)


def number(value: float) -> str:
    r"""As short as four digits tell it, with thin spaces between thousands.

    >>> number(1234567), number(0.25), number(3.015625), number(128.0)
    ('1\u202f234\u202f567', '0.25', '3.016', '128')
    """
    if float(value).is_integer():
        return f"{int(value):,}".replace(",", "\u202f")
    return f"{value:.4g}" if abs(value) < 10_000 else f"{value:,.0f}".replace(",", "\u202f")


def percent(share: float) -> str:
    """Of a hundred; a share that is not quite nothing is never shown as nothing.

    >>> percent(0.1234), percent(0.00004), percent(0.0), percent(1.0)
    ('12.3 %', '<0.01 %', '0 %', '100 %')
    """
    if share in (0.0, 1.0):
        return f"{share:.0%}".replace("%", " %")
    if share < 0.0001:
        return "<0.01 %"
    return f"{100 * share:.2f} %" if share < 0.01 else f"{100 * share:.1f} %"
