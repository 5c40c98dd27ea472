"""The credit that a licence asks for, filled in from the asset.

The surprising rule: a template is no program. Braces that name nothing of ours stay as they are.
"""

from __future__ import annotations

import re

from pipeline.contract import Asset, License


def credit(asset: Asset, record: License) -> str:
    """By the licence's template, or the name of the licence where it has none."""
    facts = {
        "title": asset.title or asset.description,
        "asset_id": asset.asset_id,
        "contributor": asset.contributor.display_name or asset.contributor.id,
        "credit_line": asset.credit_line or "",
        "attribution_text": asset.attribution_text or "",
        "rights_holder": (record.rights_holder or record.licensor).name,
    }
    template = record.attribution_template or record.expression
    return re.sub(r"\{([a-z_]+)\}", lambda found: facts.get(found[1], found[0]), template)
