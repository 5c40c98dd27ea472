"""The receipt of a compaction: which files changed, what they hold now, and that nothing gone is in it.

The surprising rule: it is told from the two versions alone, once the second is published. Whoever next
revokes or collects writes the one that a dead process left out, before what it is told from is erased.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from infra import runs
from infra.artifact import Shard
from infra.corpus import Corpus, Version
from infra.storage import Store
from pipeline import audit, erasing, folding, indexing, receipts, refs, schema, shards
from pipeline.derivation import SOURCES
from pipeline.indexing import MEMBERS
from pipeline.neighbors import NEIGHBORS
from pipeline.receipts import Change, Examples, Index, Receipt
from pipeline.revoking import targets
from pipeline.revoking.compaction import whole
from pipeline.revoking.targets import Gone
from pipeline.sealing import Seal

UID, SPANS = schema.UID.name, "spans"


@dataclass(frozen=True, slots=True, kw_only=True)
class Changed:
    """A shard of a step, as it was and as it is; None where there is none."""

    step: str
    slot: str
    before: Shard | None
    after: Shard | None


def owed(corpus: Corpus, head: Version, *, seal: Seal) -> list[Changed]:
    """Write what is missing of the newest compaction's receipt and of its line in the audit log; what the
    compaction changed, if its receipt was missing. From within the corpus's lease.
    """
    if not head.floor:
        return []
    store, changes = corpus.store, list[Changed]()
    written = next(receipts.read(store, newest_first=True), None)
    if written is None or written.receipt.version_after != head.floor:
        after = corpus.version(head.floor) if head.floor != head.number else head
        before = whole(corpus, corpus.version(head.floor - 1))
        changes = changed(corpus, before, after)
        written = receipts.write(store, receipt(corpus, before, after, changes), seal=seal)
    logged = (one for one in audit.entries(store, newest_first=True) if one.type == "compaction_done")
    newest = next(logged, None)
    if newest is None or newest.facts["receipt"] != written.path:
        facts = {
            "version": head.floor,
            "receipt": written.path,
            "sha256": written.sha256,
            "targets_hash": written.receipt.targets_hash,
        }
        audit.append(store, "compaction_done", facts, seal=seal)
    return changes


def changed(corpus: Corpus, before: Version, after: Version) -> list[Changed]:
    found = []
    for step in (*before.artifacts, *before.models):
        old = corpus.artifact(before, step).shards
        is_left = step in after.artifacts or step in after.models
        new = corpus.artifact(after, step).shards if is_left else {}
        for slot in sorted({*old, *new}):
            one, other = old.get(slot), new.get(slot)
            if one is None or other is None or one.key != other.key:
                found.append(Changed(step=step, slot=slot, before=one, after=other))
    return found


def receipt(corpus: Corpus, before: Version, after: Version, changes: Sequence[Changed]) -> Receipt:
    store, as_of = corpus.store, datetime.fromisoformat(after.as_of)
    register = folding.revocations(store, after)
    records = corpus.artifact(before, "records").shards
    gone = targets.found(store, before, records, targets.revisions_of(store, records), register, as_of)
    is_fitted = "split" in before.artifacts and not gone.every.isdisjoint(kept(corpus, before))
    now = datetime.now(UTC).isoformat(timespec="seconds")
    loaded = (one for one in audit.entries(store, newest_first=True) if one.type == "revocation_loaded")
    newest = next(loaded, None)
    return Receipt(
        revocation_ids=tuple(line.revocation_id for line in gone.lines),
        targets_hash=receipts.targets_hash(gone.every),
        requested_at=min((line.requested_at for line in gone.lines), default=as_of).isoformat(),
        effective_at=min((line.effective_at for line in gone.lines), default=as_of).isoformat(),
        loaded_at=newest.at if gone.lines and newest is not None else now,
        compacted_at=now,
        version_before=after.number - 1,
        version_after=after.number,
        artifacts=tuple(files_of(store, changes, gone)),
        index=of_index(corpus, before, after),
        examples=of_examples(store, changes, gone),
        duplicates_listed=gone.others,
        models_affected=tuple(sorted(readers(corpus, changes))),
        residue=tuple(f"{step}/{key}" for step, key in sorted(after.models.items()) if is_fitted),
    )


def kept(corpus: Corpus, version: Version) -> set[str]:
    """All that models were fitted on are among them."""
    return {*indexing.kept_uids(corpus.store, [*corpus.artifact(version, "split").shards.values()])}


def readers(corpus: Corpus, changes: Sequence[Changed]) -> Iterator[str]:
    """Runs that began on a step of which a shard changed; `models-affected` tells how far each got."""
    steps = {one.step for one in changes}
    yield from (one.identity for one in runs.listed(corpus) if not steps.isdisjoint(one.begun))


def files_of(store: Store, changes: Sequence[Changed], gone: Gone) -> Iterator[Change]:
    """A change for each file with rows, or members, of assets."""
    for one in changes:
        if one.before is None:
            continue
        for file in one.before.files:
            after = one.after if one.after is not None and file in one.after.files else None
            sha256 = None if after is None else after.sha256(file)
            if not has_uids(file) or one.before.sha256(file) == sha256:
                continue
            place = {
                "step": one.step,
                "slot": one.slot,
                "path": (after or one.before).name(file),
                "sha256_before": one.before.sha256(file),
                "sha256_after": sha256,
            }
            held = uids_of(store, one.before, file)
            left = [] if after is None else uids_of(store, after, file)
            yield Change.of(place=place, before=held, after=left, gone=gone.every)


def has_uids(file: str) -> bool:
    return file.endswith((".parquet", ".arrow", ".tar"))


def uids_of(store: Store, shard: Shard, file: str) -> list[str]:
    """Of every row or sample of a file; none where its rows are of no asset."""
    data = refs.of(store, shard, file).read()
    if file.endswith(".tar"):
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as tar:
            keys = dict.fromkeys(name.partition(".")[0] for name in tar.getnames())
        return [key.replace("_", ":", 1) for key in keys]
    table = erasing.table_of(file, data)
    if SPANS in table.column_names:
        cited = table[SPANS].combine_chunks().flatten().field(UID)
        return [uid for uid in cited.unique().to_pylist() if uid]
    if SOURCES in table.column_names:
        return list(table[SOURCES].combine_chunks().flatten().unique().to_pylist())
    return list(table[UID].to_pylist()) if UID in table.column_names else []


def of_index(corpus: Corpus, before: Version, after: Version) -> Index | None:
    if "index" not in before.artifacts or "index" not in after.artifacts:
        return None
    held, left = (member_ids(corpus, version) for version in (before, after))
    return Index(
        ntotal_before=len(held),
        removed=len(held - left),
        added=len(left - held),
        ntotal_after=len(left),
        id_set_sha256=receipts.ids_hash(left),
    )


def member_ids(corpus: Corpus, version: Version) -> set[int]:
    """Of the vectors."""
    found: set[int] = set()
    for shard in corpus.artifact(version, "index").shards.values():
        table = erasing.table_of(MEMBERS, refs.of(corpus.store, shard, MEMBERS).read())
        found.update(table.filter(table[schema.MAY_BE_NEIGHBOR.name])[schema.ID.name].to_pylist())
    return found


def of_examples(store: Store, changes: Sequence[Changed], gone: Gone) -> Examples:
    regenerated = dropped = blanked = 0
    for one in changes:
        if one.step == "neighbors":
            held, left = (lists_of(store, shard) for shard in (one.before, one.after))
            dropped += len(held.keys() & gone.every)
            regenerated += sum(uid not in held or held[uid] != cited for uid, cited in left.items())
        elif one.before is not None and "packs" in one.before.facts:
            blanked += documents(store, one.before, gone.every)
    return Examples(regenerated=regenerated, dropped=dropped, blanked=blanked)


def lists_of(store: Store, shard: Shard | None) -> Mapping[str, Any]:
    """Whom each target cites, and how it was found."""
    if shard is None:
        return {}
    table = erasing.table_of(NEIGHBORS, refs.of(store, shard, NEIGHBORS).read())
    names = (UID, schema.CANDIDATES.name)
    return dict(zip(*(table[name].to_pylist() for name in names), strict=True))


def documents(store: Store, shard: Shard, gone: frozenset[str]) -> int:
    """Of packs, those with a text or an image of any of these."""
    found = 0
    for name, info in shard.facts["packs"].items():
        for block in shards.blocks_of(refs.of(store, shard, name).read(), info):
            found += len(block.documents(*gone))
    return found
