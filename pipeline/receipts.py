"""What was done for revocations, provable without the pipeline's bookkeeping: a chain of receipts.

``receipts/NNNNNN.json``, one a compaction, in the form of :mod:`pipeline.chain`. The surprising rule: a
receipt proves absence from a set of uids, whose Merkle root it tells; that the set is all that the file holds
is for a reader of the file to see. `pardalis verify` reads the files themselves, and believes no receipt.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from pydantic import TypeAdapter

from infra.artifact import canonical
from infra.storage import Store
from pipeline import chain
from pipeline.merkle import Absence, Tree
from pipeline.sealing import Seal

FOLDER = "receipts"
KIND = "receipt/1.0"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A shard of a step that was written anew, or dropped."""

    step: str
    slot: str
    path: str
    """Of the file, below the corpus: of the one that stands now, or of the one that is gone."""
    sha256_before: str
    sha256_after: str | None
    """None where nothing stands in its place."""
    uids_before: int
    uids_after: int
    merkle_root_after: str
    absence_proofs: tuple[Absence, ...]
    """Of each revoked uid that it held."""

    @classmethod
    def of(
        cls, *, place: Mapping[str, Any], before: Iterable[str], after: Iterable[str], gone: Collection[str]
    ) -> Self:
        """From the uids that the file held and holds; ValueError where one of ``gone`` is still in it.

        ``place``: step, slot, path, sha256_before and sha256_after.
        """
        held, tree = set(before), Tree(after)
        return cls(
            **place,
            uids_before=len(held),
            uids_after=len(tree.uids),
            merkle_root_after=tree.root,
            absence_proofs=tuple(tree.absence(uid) for uid in sorted(held.intersection(gone))),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Index:
    """Vectors of the index before and after."""

    ntotal_before: int
    removed: int
    ntotal_after: int
    added: int = 0
    """Of duplicates that take the place of one that went."""
    id_set_sha256: str
    """Of the ids that are left: see :func:`ids_hash`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Examples:
    regenerated: int
    """Targets whose lists of neighbors are others now, or new."""
    dropped: int
    """Targets that are gone."""
    blanked: int = 0
    """Documents of packs that held any of it: overwritten in place, or packed anew without."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """Instants are UTC, ISO 8601. Lists of uids name assets that anybody may still have to act on."""

    revocation_ids: tuple[str, ...]
    targets_hash: str
    """Of what was taken back: see :func:`targets_hash`."""
    requested_at: str
    """The earliest of the revocations'."""
    effective_at: str
    """The earliest of the revocations'."""
    loaded_at: str
    compacted_at: str
    version_before: int
    version_after: int
    artifacts: tuple[Change, ...]
    index: Index | None
    """None where no index was built."""
    examples: Examples
    duplicates_listed: tuple[str, ...] = ()
    """Uids of other providers with the same bytes, left to a person."""
    backups_expire_at: str | None = None
    """When what copies there are elsewhere will be gone; None: unknown here."""
    models_affected: tuple[str, ...] = ()
    """Identities of runs that began on a step of which a shard changed; their weights are not changed, and
    `pardalis models-affected` tells what each has seen."""
    residue: tuple[str, ...] = ()
    """Fitted models that were made with it and stay pinned: STEP/KEY."""
    notes: Mapping[str, Any] = field(default_factory=dict)


AS_RECEIPT = TypeAdapter(Receipt)


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A receipt in its place."""

    number: int
    path: str
    """Below the corpus."""
    sha256: str
    """Of its bytes: tell it in the audit log."""
    prev: str
    """sha256 of the bytes of the receipt before."""
    receipt: Receipt
    is_signed: bool


def targets_hash(targets: Iterable[str]) -> str:
    """sha256 of the sorted uids as canonical JSON, hex: tells one set from another without naming it."""
    return hashlib.sha256(canonical(sorted(set(targets)))).hexdigest()


def ids_hash(ids: Iterable[int]) -> str:
    """sha256 of the sorted ids as little-endian int64, hex."""
    return hashlib.sha256(b"".join(one.to_bytes(8, "little", signed=True) for one in sorted(ids))).hexdigest()


def write(store: Store, receipt: Receipt, *, seal: Seal = chain.UNSEALED) -> Written:
    """Add a receipt to the chain, from within the corpus's lease."""
    return _written(chain.append(store, FOLDER, {"kind": KIND, **asdict(receipt)}, seal=seal))


def read(store: Store, *, newest_first: bool = False) -> Iterator[Written]:
    """Every receipt, unchecked: see :func:`check`."""
    return map(_written, chain.links(store, FOLDER, newest_first=newest_first))


def check(store: Store, *, keys: Collection[bytes] = ()) -> int:
    """How many receipts there are; :class:`pipeline.chain.Broken` names the first that was changed."""
    return chain.check(store, FOLDER, keys=keys)


def _written(link: chain.Link) -> Written:
    told = {name: value for name, value in link.body.items() if name not in {"kind", "prev", "signature"}}
    return Written(
        number=link.number,
        path=link.name,
        sha256=link.sha256,
        prev=link.body["prev"],
        receipt=AS_RECEIPT.validate_json(canonical(told)),
        is_signed="signature" in link.body,
    )
