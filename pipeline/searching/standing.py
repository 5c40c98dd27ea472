"""What is taken back at one time, as it bears on the members: masks, and what is taken of licences.

The surprising rule: what a revocation names is found in columns, by the same words that ``pipeline.revoked``
looks for in one asset. A test holds the two together.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

import numpy as np

from pipeline import deciding
from pipeline.contract import Revocation, Use
from pipeline.revoked import Revoked, Target
from pipeline.searching.holdings import Holdings, Mask, spelled

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Standing:
    removed_N: Mask
    """Members that are taken back."""
    withdrawn_N: Mask
    """Members that were taken out of the index, and of nothing else."""
    restricted: Mapping[Use, Mask]
    """Members for which a use has ended, whatever their licences say."""
    of_licenses: Revoked
    """What is taken back of licences, for whoever weighs them."""


def copies(records: Sequence[Revocation], holdings: Holdings) -> list[Revocation]:
    """The same revocations, of the bytes that ever came under what they name."""
    return deciding.copies(records, {"": holdings.came})


def of(
    records: Iterable[Revocation], holdings: Holdings, now: datetime, *, withdrawn: Collection[str] = ()
) -> Standing:
    """``records`` hold their copies too; ``withdrawn`` are uids."""
    revoked = Revoked.of(records, now)
    ended: dict[Use, list[Target]] = {}
    for target, uses in revoked.restricted.items():
        for use in uses:
            ended.setdefault(use, []).append(target)
    return Standing(
        removed_N=named(revoked.removed, holdings),
        withdrawn_N=holdings.named["asset"].mask([*withdrawn]),
        restricted={use: named(targets, holdings) for use, targets in ended.items()},
        of_licenses=Revoked(of_licenses(revoked.removed), of_licenses(revoked.restricted)),
    )


def named(targets: Iterable[Target], holdings: Holdings) -> Mask:
    """Members [N] that one of the targets names; a licence or a fingerprint names none."""
    texts: dict[str, list[str]] = {}
    for kind, provider, name in targets:
        texts.setdefault(kind, []).append(spelled(kind, provider, name))
    found_N = np.zeros(len(holdings), np.bool_)
    for kind, column in holdings.named.items():
        if kind in texts:
            found_N |= column.mask(texts[kind])
    return found_N


def of_licenses(by_target: Mapping[Target, T]) -> dict[Target, T]:
    return {target: value for target, value in by_target.items() if target[0] == "license"}
