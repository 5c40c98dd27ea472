"""The receipt of a compaction: which files changed, what they hold now, and that nothing gone is in it."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from infra import runs
from infra.artifact import Shard
from infra.corpus import Corpus, Version
from infra.storage import Store
from pipeline import audit, erasing, receipts, refs, schema
from pipeline.indexing import MEMBERS
from pipeline.jobs import Job
from pipeline.receipts import Change, Examples, Index, Receipt
from pipeline.revoking.compaction import Compaction

if TYPE_CHECKING:
    from pipeline.revoking.taking import Found

UID, SPANS = schema.UID.name, "spans"


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def told(work: Job, found: Found, version: Version, compaction: Compaction, *, loaded_at: str) -> None:
    """Write the receipt, and say in the audit log which it is."""
    corpus, gone = work.corpus, found.gone.every
    due = [line for line in found.register if line.effective_at <= found.as_of]
    receipt = Receipt(
        revocation_ids=tuple(sorted({line.revocation_id for line in due})),
        targets_hash=receipts.targets_hash(gone),
        requested_at=min((line.requested_at for line in due), default=found.as_of).isoformat(),
        effective_at=min((line.effective_at for line in due), default=found.as_of).isoformat(),
        loaded_at=loaded_at,
        compacted_at=now(),
        version_before=found.head.number,
        version_after=version.number,
        artifacts=tuple(changes(corpus.store, compaction, gone)),
        index=of_index(corpus, compaction.version, version),
        examples=of_examples(corpus, compaction.version, version, compaction),
        duplicates_listed=found.gone.others,
        models_affected=tuple(sorted(readers(corpus, compaction))),
        residue=tuple(f"{step}/{key}" for step, key in sorted(version.models.items())),
    )
    written = receipts.write(corpus.store, receipt, seal=work.seal)
    facts = {
        "version": version.number,
        "receipt": written.path,
        "sha256": written.sha256,
        "targets_hash": receipt.targets_hash,
    }
    audit.append(corpus.store, "compaction_done", facts, seal=work.seal)


def readers(corpus: Corpus, compaction: Compaction) -> Iterator[str]:
    """Runs on packs, of any version, if packs held what is gone; `models-affected` tells how far each got."""
    if any(one.step == "pack" for one in compaction.changed):
        yield from (one.identity for one in runs.listed(corpus) if "pack" in one.begun)


def changes(store: Store, compaction: Compaction, gone: frozenset[str]) -> Iterator[Change]:
    """A change for each file with rows, or members, of assets."""
    for one in compaction.changed:
        for file in one.after.files:
            if one.before is None or file not in one.before.files:
                continue
            if one.before.sha256(file) == one.after.sha256(file) or not has_uids(file):
                continue
            place = {
                "step": one.step,
                "slot": one.slot,
                "path": one.after.name(file),
                "sha256_before": one.before.sha256(file),
                "sha256_after": one.after.sha256(file),
            }
            held, left = (uids_of(store, shard, file) for shard in (one.before, one.after))
            yield Change.of(place=place, before=held, after=left, gone=gone)


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
    found: list[str] = table[UID].to_pylist() if UID in table.column_names else []
    return found


def of_index(corpus: Corpus, before: Version, after: Version) -> Index | None:
    if "index" not in before.artifacts or "index" not in after.artifacts:
        return None
    held, left = (member_ids(corpus, version) for version in (before, after))
    return Index(
        ntotal_before=len(held),
        removed=len(held - left),
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


def of_examples(corpus: Corpus, before: Version, after: Version, compaction: Compaction) -> Examples:
    def counts(version: Version, step: str) -> Mapping[str, Any]:
        return corpus.artifact(version, step).counts if step in version.artifacts else {}

    held, left = (sum(counts(version, "neighbors").values()) for version in (before, after))
    again = sum(one.step == "neighbors" for one in compaction.changed)
    return Examples(regenerated=again, dropped=held - left)
