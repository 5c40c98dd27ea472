"""What agencies write in their columns, in the contract's words; their layouts share this.

A cell that says nothing leaves its field out, so that ``every_asset`` of the delivery, or a fault, decides. A
cell that should say yes or no and says neither is a fault: whatever stood in for it would be a guess.

The surprising rule: nothing is passed over. What a layout does not know, or cannot read, is kept under
``extra`` as it was sent, up to 48 columns of up to 4096 characters; ``extra.cut_columns`` names those that
are cut or did not fit. Only coordinates are left out, and what stands before an address's ``@`` and after
its ``?``, where credentials stand.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from infra.guarded import json as guarded
from infra.guarded.refused import Refused
from infra.redaction import disclosed
from pipeline import naming, stated
from pipeline.contract import Delivery
from pipeline.deliveries.columns import Cells, Row
from pipeline.deliveries.rows import Entry, Table
from pipeline.deliveries.sample import Wrong
from pipeline.fields import clean

FLAGS = {
    **dict.fromkeys(("yes", "true", "t", "y", "1"), True),
    **dict.fromkeys(("no", "false", "f", "n", "0"), False),
}
IMAGE_TYPES = {
    "photo": "photo",
    "photograph": "photo",
    "photography": "photo",
    "illustration": "illustration",
    "vector": "vector",
}
MAX_ENTRIES, MAX_CHARACTERS, MAX_NAME = 48, 4096, 128
"""Of ``extra``. The contract takes 64 entries: the others are for what the delivery states of every asset."""
CUT = "cut_columns"
POSITIONS = frozenset(
    {
        "coordinates",
        "geo",
        "gps",
        "lat",
        "latitude",
        "lng",
        "location_coordinates",
        "lon",
        "long",
        "longitude",
    }
    | {"gps_latitude", "gps_longitude", "geo_location", "geolocation"}
)
"""Columns of coordinates, which are kept nowhere."""
_MOMENT = re.compile(
    r"[1-9][0-9]{3}-[0-9]{2}-[0-9]{2}"
    r"([T ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?(?P<zone>Z|[+-][0-9]{2}:?[0-9]{2}))?"
)


def column(name: str) -> str:
    """A header as a layout knows it, whatever its case and its spaces.

    >>> [column(name) for name in ("Mature content", "FILENAME", "Release(s)")]
    ['mature_content', 'filename', 'release_s']
    """
    return re.sub("[^a-z0-9]+", "_", name.lower()).strip("_")


def folded(table: Table) -> Iterator[Row]:
    """The rows of a table by :func:`column`. Raises :class:`Refused` for two columns of one name."""
    for place, cells in table.rows:
        found: dict[str, Any] = {}
        for name, cell in cells.items():
            if column(name) in found:
                told = f"column {name[:80]!a} is there twice, but for its case and spaces; keep one"
                raise Refused(table.where, place, "header", told)
            found[column(name)] = cell
        yield place, found


def objects(tables: Sequence[Table], *, prefixes: Sequence[str]) -> Iterator[Entry]:
    """The objects of an API; an image is called by the id, or by a prefix and the id."""
    for table in tables:
        for place, cells in table.rows:
            name = str(cells.get("id", ""))
            also = tuple(f"{prefix}{name}" for prefix in prefixes if name)
            yield Entry(place=place, key=asset_id(cells.get("id")), image=name, also=also, cells=cells)


def asset_id(name: Any) -> str | None:
    """The id of a provider's asset: as it is where that is an asset id, else one derived from it."""
    if isinstance(name, bool) or not isinstance(name, str | int) or name == "":
        return None
    return naming.asset_id(str(name))


def moment(cell: Any) -> str | None:
    """A day, or a time with its zone, in UTC as the contract spells it; None for anything else.

    >>> moment("2019-06-04T15:56:44-04:00"), moment("2018-08-24"), moment("2019-06-04T15:56:44")
    ('2019-06-04T19:56:44Z', '2018-08-24T00:00:00Z', None)
    """
    found = _MOMENT.fullmatch(cell) if isinstance(cell, str) else None
    if found is None:
        return None
    try:
        parsed = datetime.fromisoformat(found[0])
        moved = parsed.astimezone(UTC) if found["zone"] else parsed
    except (ValueError, OverflowError):
        return None
    return moved.replace(tzinfo=None).isoformat() + "Z"


def words(cell: Any) -> list[Any]:
    """The entries of a list, or of a cell that holds one: JSON, or parted by commas, semicolons or bars.

    >>> words("dog, black cat;"), words('["a, b", "c"]')
    (['dog', 'black cat'], ['a, b', 'c'])
    """
    found = cell
    if isinstance(cell, str):
        found = _listed(cell) if cell.startswith("[") else re.split("[,;|]", cell)
    elif not isinstance(cell, list):
        found = [] if cell is None else [cell]
    stripped = (entry.strip() if isinstance(entry, str) else entry for entry in found)
    return [entry for entry in stripped if entry not in (None, "")]


def _listed(cell: str) -> list[Any]:
    try:
        found = guarded.loads(cell.encode(), file="cell")
    except Refused:
        return [entry.strip(" '\"") for entry in cell.strip("[]").split(",")]
    return found if isinstance(found, list) else [found]


def sentences(cell: Any) -> list[str]:
    """The entries of a list, whole: a restriction is not parted at its commas."""
    found = cell if isinstance(cell, list) else [cell]
    return [plain(entry).strip() for entry in found if said({"": entry})]


def said(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that say something."""
    return {
        name: value
        for name, value in fields.items()
        if not (value is None or value in ([], {}) or (isinstance(value, str) and not value.strip()))
    }


def inside(cell: Any, name: str) -> Any:
    """A field of an object; None where there is no object, or no such field."""
    return cell.get(name) if isinstance(cell, Mapping) else None


def wrong(name: str, cell: Any, fix: str) -> Wrong:
    return Wrong("invalid_record", f"{name}: got {str(cell)[:60]!a}; {fix}")


@dataclass(frozen=True, slots=True)
class Reading:
    """A row that is being read: what nobody asked for, or could not be understood, is left for ``extra``."""

    cells: Cells
    understood: set[str] = field(default_factory=set)

    def cell(self, name: str) -> Any:
        self.understood.add(name)
        return self.cells.get(name)

    def flag(self, name: str) -> bool | None:
        """Raises :class:`Wrong` for a cell that says neither yes nor no."""
        cell = self.cell(name)
        if cell is None or (isinstance(cell, str) and not cell.strip()):
            return None
        try:
            return FLAGS[str(cell).strip().lower()]
        except KeyError:
            raise wrong(name, cell, "write yes or no, or leave it blank") from None

    def tri(self, name: str) -> str | None:
        """yes, no or unknown, where the cell says one of them."""
        if str(self.cells.get(name, "")).strip().lower() == "unknown":
            self.understood.add(name)
            return "unknown"
        flag = self.flag(name)
        return None if flag is None else "yes" if flag else "no"

    def moment(self, name: str) -> str | None:
        found = moment(self.cells.get(name))
        if found is not None:
            self.understood.add(name)
        return found

    def image_type(self, name: str) -> str | None:
        """One of the contract's; a word that is none of them, such as ``fine_art``, is ``unknown``."""
        cell = self.cells.get(name)
        if cell is None or not str(cell).strip():
            return None
        known = IMAGE_TYPES.get(str(cell).strip().lower())
        if known is not None:
            self.understood.add(name)
        return known or "unknown"

    def record(
        self, fields: Mapping[str, Any], delivery: Delivery, *, dropped: Collection[str] = ()
    ) -> dict[str, Any]:
        """The record of what was said. ``dropped`` are columns about other files than the delivered one."""
        rest = {
            name: cell
            for name, cell in self.cells.items()
            if name not in self.understood and name not in dropped and column(name) not in POSITIONS
        }
        mine = {**fields.get("extra", {}), **rest}
        return {
            **stated.standing(delivery.sequence, delivery.every_asset),
            **said({**fields, "extra": extra(said(mine))}),
        }


def identity(name: Any) -> dict[str, Any]:
    """The asset id; a name that is none is kept as ``extra.provider_id``."""
    found = asset_id(name)
    return {"asset_id": found, "extra": {} if found in (None, str(name)) else {"provider_id": name}}


def extra(cells: Mapping[str, Any]) -> dict[str, str]:
    """Texts of bounded size, and which of them are not whole.

    >>> extra({"rank": 3, "see": "https://me:pw@host.example/a?token=t"})
    {'rank': '3', 'see': 'https://host.example/a'}
    """
    texts = {clean(name)[:MAX_NAME]: plain(cell) for name, cell in cells.items()}
    kept = dict(list(texts.items())[:MAX_ENTRIES])
    cut = [name for name, text in texts.items() if name not in kept or len(text) > MAX_CHARACTERS]
    told = {CUT: ", ".join(cut)} if cut else {}
    return {name: text[:MAX_CHARACTERS] for name, text in {**kept, **told}.items()}


def plain(cell: Any) -> str:
    """A value as text without hidden characters and credentials, its addresses without queries."""
    text: str = disclosed(cell if isinstance(cell, str) else json.dumps(cell, ensure_ascii=False))
    return clean(text)


def named(cell: Any) -> list[dict[str, Any]]:
    """Categories, given as names, or as objects that have a name and perhaps an id."""
    found: Sequence[Any] = words(cell)
    return [
        said({"id": number(inside(entry, "id")), "name": inside(entry, "name")})
        if isinstance(entry, Mapping)
        else {"name": entry}
        for entry in found
    ]


def number(cell: Any) -> Any:
    """Ids are texts; some APIs write them as numbers."""
    return str(cell) if isinstance(cell, int) and not isinstance(cell, bool) else cell
