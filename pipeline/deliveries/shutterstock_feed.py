"""Shutterstock's feed of changes (``GET /v2/images/updated``): what was deleted is revoked.

Entries are ``{"id", "updated_time", "updates": [...]}``, in pages. A deletion becomes a revocation of the
asset, in effect from its time on. The surprising rule: an addition or an edit without an image object in the
same delivery refuses the delivery. The feed says that something changed and not what, and a correction that
nobody hears of is worse than a delivery that is sent again. Leave out entries of images that are not yours.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

from infra.guarded.refused import Refused
from pipeline.contract import Delivery, Revocation
from pipeline.deliveries import agency
from pipeline.deliveries.columns import Cells
from pipeline.deliveries.rows import Table
from pipeline.naming import derived_id

CHANGES = frozenset({"addition", "added", "edit", "edited"})
DELETIONS = frozenset({"deletion", "deleted"})
MAX_ID = 128
"""Characters of a revocation's id."""
MAX_ENDED = 20_000
"""Assets that one delivery takes back; their records take 60 MiB."""


def is_deletion(changes: Collection[Any]) -> bool:
    return any(str(change).lower() in DELETIONS for change in changes)


def revocations(feeds: Sequence[Table], delivery: Delivery, delivered: Collection[str]) -> list[Revocation]:
    """One for each asset that is gone, from the first time that says so; raises :class:`Refused`."""
    ended: dict[str, str] = {}
    for table in feeds:
        for place, entry in table.rows:
            asset, when, gone = change(entry, table.where, place)
            if gone:
                ended[asset] = min(when, ended.get(asset, when), key=datetime.fromisoformat)
                if len(ended) > MAX_ENDED:
                    told = f"over {MAX_ENDED} assets are gone; split the feed among deliveries"
                    raise Refused(table.where, place, "feed", told)
            elif asset not in delivered:
                told = f"asset {asset} was added or edited, and has no object here"
                fix = "deliver its object and image, or leave the entry out if it is not yours"
                raise Refused(table.where, place, "feed", f"{told}; {fix}")
    return [revocation(delivery, asset, when) for asset, when in ended.items()]


def change(entry: Cells, where: str, place: str) -> tuple[str, str, bool]:
    """(asset, time, whether it is gone) of an entry whose every word is understood."""
    asset, when = agency.asset_id(entry.get("id")), agency.moment(entry.get("updated_time"))
    changes = {str(change).lower() for change in agency.words(entry.get("updates"))}
    if asset is None or when is None or not changes or changes - CHANGES - DELETIONS:
        got = {name: entry.get(name) for name in ("id", "updated_time", "updates")}
        told = f"got {str(got)[:200]!a}; an entry has an id, a time with its zone and"
        raise Refused(where, place, "feed", f"{told} updates, of {', '.join(sorted(CHANGES | DELETIONS))}")
    return asset, when, is_deletion(changes)


def revocation(delivery: Delivery, asset: str, when: str) -> Revocation:
    told = f"{delivery.delivery_id}:{asset}"
    return Revocation.model_validate(
        {
            "schema": "revocation/1.0",
            "revocation_id": told if len(told) <= MAX_ID else derived_id(told),
            "provider": delivery.provider,
            "target_type": "asset",
            "targets": [asset],
            "reason": "other",
            "action": "remove",
            "requested_at": when,
            "effective_at": when,
        }
    )
