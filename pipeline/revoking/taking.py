"""Take assets back: at once nobody serves them, and then a version holds nothing of them.

Two versions are published. The first only knows the revocations: from then on loaders blank what they name,
no search finds it and no neighbor list is read with it. The second is what is left, in every artifact. The
surprising rule: a crash between, or anywhere, needs no mending. Who revokes again, or revokes nothing new,
goes on with whatever the register says and the newest version still holds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from infra.corpus import Corpus, Version
from infra.options import EngineOptions
from infra.storage import LocalStore
from pipeline import audit, config, erased, fetching, folding, indexing, plan, refs
from pipeline.contract import Revocation
from pipeline.deliveries import listing
from pipeline.examples import load_holders
from pipeline.jobs import Answer, Job, instant, job
from pipeline.revoking import blanking, collecting, derived, proving, scrubbing, targets
from pipeline.revoking.compaction import Changed, Compaction
from pipeline.revoking.targets import Gone
from pipeline.sealing import Seal
from pipeline.settings import Asked
from pipeline.step import ROWS, Step

PACK = "pack"
MOST = 5
"""Assets that are named in a line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a corpus holds of what is to be taken back."""

    head: Version
    register: tuple[Revocation, ...]
    new: tuple[Revocation, ...]
    """Of the register, what the newest version does not know yet."""
    gone: Gone
    as_of: datetime


def read(path: Path) -> list[Revocation]:
    """Records of ``revocations.jsonl``; ValueError names each line, field and fix."""
    return listing.revocations_at(LocalStore(str(path.absolute().parent)), path.name)


def look(corpus: Corpus, told: Sequence[Revocation], as_of: datetime) -> Found:
    head = corpus.newest()
    known = folding.revocations(corpus.store, head)
    new = unknown(told, known)
    records = corpus.artifact(head, "records").shards
    gone = targets.found(corpus.store, head, records, [*known, *new], as_of)
    return Found(head=head, register=(*known, *new), new=tuple(new), gone=gone, as_of=as_of)


def unknown(lines: Sequence[Revocation], register: Sequence[Revocation]) -> list[Revocation]:
    """Those that the register does not hold, each once."""
    held = {line.model_dump_json(by_alias=True) for line in register}
    told = {line.model_dump_json(by_alias=True): line for line in lines}
    return [line for text_, line in told.items() if text_ not in held]


def loaded(corpus: Corpus, version: Version, lines: Sequence[Revocation]) -> Version:
    """The version with more in its register."""
    if not lines:
        return version
    data = "".join(line.model_dump_json(by_alias=True) + "\n" for line in lines).encode()
    return corpus.append(version, folding.REVOCATIONS, data)


def revoke(
    asked: Asked, told: Sequence[Revocation], as_of: str | None, engine: EngineOptions, *, packs: str
) -> Answer:
    with job("revoke", asked, engine) as work:
        facts, _ = taken(work, told, instant(as_of), packs=packs)
    return facts, text(facts)


def taken(
    work: Job, told: Sequence[Revocation], as_of: datetime, *, packs: str
) -> tuple[dict[str, Any], list[Changed]]:
    """Everything, from the register to what is erased: facts, and the shards that changed."""
    store, began = work.corpus.store, proving.now()
    found = look(work.corpus, told, as_of)
    head = work.publish(found.head, loaded(work.corpus, found.head, found.new))
    if found.new:
        facts = {
            "version": head.number,
            "revocations": [line.revocation_id for line in found.new],
            "assets": len(found.gone.every),
        }
        audit.append(store, "revocation_loaded", facts, seal=work.seal)
    version, compaction = compacted(work, head, found, packs=packs)
    if version is not head:
        proving.told(work, found, version, compaction, loaded_at=began)
    gone = collecting.collect(work.corpus, version)
    if gone.files:
        audit.append(store, "gc_done", gone.facts(), seal=work.seal)
    return answer(found, version, compaction, gone), compaction.changed


def swept(asked: Asked, *, dry_run: bool) -> collecting.Erased:
    """Erase what no version lists, alone."""
    corpus = asked.corpus
    with corpus.writing(purpose="pardalis gc"):
        found = collecting.collect(corpus, corpus.newest(), dry_run=dry_run)
        if found.files and not dry_run:
            seal = Seal.of(config.of(asked.told).pipeline.audit)
            audit.append(corpus.store, "gc_done", found.facts(), seal=seal)
    return found


def compacted(work: Job, head: Version, found: Found, *, packs: str) -> tuple[Version, Compaction]:
    """What is left of the newest version; itself, where nothing of it is to go."""
    corpus, gone = work.corpus, found.gone
    before = whole(corpus, head)
    compaction = Compaction(store=corpus.store, version=before, slots=gone.uids)
    # What is known of the bytes goes into the register: when their rows are gone nobody can tell any more.
    version = loaded(corpus, head, unknown(gone.copies, found.register))
    version = erased.add(corpus, version, gone.uids)
    version = scrubbing.scrubbed(corpus, version, gone.uids)
    version = replace(version, as_of=found.as_of.isoformat())
    tried = compaction.before(fetching.STEP)
    again = fetching.made_before(work.config.pipeline.fetch, tried)
    version = work.run(version, [again] * fetching.rounds(tried), compaction)
    for step in steps_of(work, before, found.as_of):
        if step.name == "codes":
            version = indexing.register(corpus, version)
        version = work.run(version, [step], compaction)
    if PACK in before.artifacts:
        if packs == "rebuild":
            steps = [step for step in plan.build_steps(work.config) if step.name == PACK]
            version = work.run(version, steps, compaction)
        else:
            version = with_blanked(work, before, version, gone)
            compaction.also(PACK, corpus.artifact(version, PACK).shards, way="blanked")
    version = derived.without(work, before, version, gone.every)
    same = replace(version, as_of=head.as_of) == head
    if same:
        return head, compaction
    return work.publish(head, replace(version, floor=head.number + 1)), compaction


def whole(corpus: Corpus, head: Version) -> Version:
    """The newest version with all that was ever built of the corpus: an ingest that changed decisions lists
    nothing that was built on others, and what is taken back goes from that too.
    """
    found = head
    for number in range(head.number - 1, head.floor - 1, -1):
        older = corpus.version(number) if number else head
        if {*older.artifacts} > {*found.artifacts}:
            found = older
    return found


def steps_of(work: Job, head: Version, as_of: datetime) -> list[Step]:
    """Those that made what the version holds, but for packs. No address is followed again."""
    every = (*plan.ingest_steps(work.config, as_of), *plan.build_steps(work.config))
    wanted = {*head.artifacts, *head.models}
    for step in reversed(every):  # what a newer release makes of its own is needed by what is there
        wanted.update(step.inputs if step.name in wanted else ())
    return [step for step in every if step.name in wanted and step.name not in (PACK, fetching.STEP)]


def with_blanked(work: Job, head: Version, version: Version, gone: Gone) -> Version:
    store, corpus = work.corpus.store, work.corpus
    packs = corpus.artifact(head, PACK)
    split = corpus.artifact(head, "split").shards
    holders = load_holders(refs.each(store, split.values(), ROWS))
    inputs = {name: corpus.artifact(version, name).key for name in packs.inputs if name != PACK}
    left = blanking.blanked(store, packs, gone.every, holders, inputs, work.log)
    return blanking.listed(store, head, version, left)


def answer(found: Found, version: Version, compaction: Compaction, gone: collecting.Erased) -> dict[str, Any]:
    return {
        "version": version.number,
        "as_of": version.as_of,
        "revocations": len(found.new),
        "assets": len(found.gone.every),
        "shards_written": dict(Counter(change.step for change in compaction.changed)),
        "duplicates_listed": list(found.gone.others),
        **gone.facts(),
    }


def text(facts: Mapping[str, Any]) -> str:
    written = sum(facts["shards_written"].values())
    lines = [
        f"version {facts['version']}: {facts['assets']} assets taken back, {written} shards written",
        f"erased {facts['erased_files']} files, {facts['erased_bytes'] / 1e6:.1f} MB",
    ]
    if others := facts["duplicates_listed"]:
        shown = ", ".join(others[:MOST]) + (" …" if len(others) > MOST else "")
        lines.append(
            f"{len(others)} assets of other providers have the same bytes and stay: {shown}; judge them"
        )
    return "\n".join(lines)
