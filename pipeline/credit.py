"""The credit that a licence asks for, filled in from the asset.

The surprising rule: a template is no program. Braces that name nothing of ours stay as they are.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from pipeline.contract import Asset, License


def facts(asset: Asset) -> dict[str, str]:
    """What a template may ask of an asset."""
    return {
        "title": asset.title or asset.description,
        "asset_id": asset.asset_id,
        "contributor": asset.contributor.display_name or asset.contributor.id,
        "credit_line": asset.credit_line or "",
        "attribution_text": asset.attribution_text or "",
    }


def filled(asset: Mapping[str, str], record: License) -> str:
    """By the licence's template, or the name of the licence where it has none. ``asset`` tells its facts."""
    known = {**asset, "rights_holder": (record.rights_holder or record.licensor).name}
    template = record.attribution_template or record.expression
    return re.sub(r"\{([a-z_]+)\}", lambda found: known.get(found[1], found[0]), template)


def owed(asset: Mapping[str, str], records: Iterable[License]) -> str:
    """The credits that the licences ask for, each once; empty if none does."""
    asked = (filled(asset, record) for record in records if record.attribution_required)
    return "; ".join(dict.fromkeys(asked))
