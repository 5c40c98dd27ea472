"""Signed addresses, which are kept nowhere: who is about to follow them reads them of the delivery again.

The surprising rule: a delivery must lie where it was ingested from for as long as images at signed addresses
are to be tried again. Once it is gone, or another was put in its place, what did not come is not asked for
any more.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Mapping

from infra.guarded.refused import Refused
from pipeline.deliveries import forms
from pipeline.deliveries.sample import Delivered
from pipeline.refs import Ref


def addresses(rows: Mapping[int, Ref], at: Delivered) -> dict[int, Mapping[int, str]]:
    """Whole addresses by batch and row; ``rows`` names the batches, with the rows kept of each.

    Raises ``Missing`` where the delivery's tables are gone, and :class:`Refused` where they changed.
    """
    if not rows:
        return {}
    batches = enumerate(itertools.islice(forms.of(at.delivery).batches(at), max(rows) + 1))
    found = {i: batch.signed for i, batch in batches if i in rows and are_kept(batch.rows, rows[i])}
    if found.keys() != rows.keys():
        told = "its rows are not those that were kept: an older release read them; begin another corpus"
        raise Refused(at.store.uri, "", "rows", told)
    return found


def are_kept(delivered: bytes, kept: Ref) -> bool:
    """Whether they are the rows that were kept, of which some may have been taken back since."""
    if hashlib.sha256(delivered).hexdigest() == kept.sha256:
        return True
    pairs = itertools.zip_longest(delivered.splitlines(), kept.read().splitlines())
    return all(left in (b"null", came) for came, left in pairs)
