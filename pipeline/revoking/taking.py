"""Take assets back: at once nobody serves them, and then a version holds nothing of them.

Two versions are published. The first only knows the revocations: from then on loaders blank what they name,
no search finds it and no neighbor list is read with it. The second is what is left, in every artifact. The
surprising rule: a crash between, or anywhere, needs no mending. Who revokes again, or revokes nothing new,
goes on with whatever the register says and the newest version still holds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from infra.corpus import Corpus, Version
from infra.options import EngineOptions
from infra.storage import LocalStore
from pipeline import audit, config, erased, fetching, folding, indexing, pairs, plan, refs, schema
from pipeline.contract import Revocation
from pipeline.deliveries import listing
from pipeline.examples import load_holders
from pipeline.jobs import Answer, Job, instant, job
from pipeline.revoking import blanking, collecting, derived, proving, scrubbing, targets
from pipeline.revoking.compaction import Compaction, whole
from pipeline.revoking.proving import Changed
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
    records = corpus.artifact(head, "records").shards
    came = targets.revisions_of(corpus.store, records)
    new = unknown(told, known)
    new += targets.withdrawn(came, [*known, *new], as_of)
    gone = targets.found(corpus.store, head, records, came, [*known, *new], as_of)
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
    corpus, seal = work.corpus, work.seal
    proving.owed(corpus, corpus.newest(), seal=seal)
    found = look(corpus, told, as_of)
    head = work.publish(found.head, loaded(corpus, found.head, found.new))
    log_loaded(corpus, head, found, seal)
    near = alike(corpus, whole(corpus, head), found.gone)
    version = compacted(work, head, found, packs=packs)
    changed = proving.owed(corpus, version, seal=seal)
    gone = collecting.collect(corpus, version)
    if gone.files:
        audit.append(corpus.store, "gc_done", gone.facts(), seal=seal)
    return answer(found, version, changed, gone, near), changed


def log_loaded(corpus: Corpus, head: Version, found: Found, seal: Seal) -> None:
    """What the register holds and the log does not tell of yet."""
    known = {
        name
        for entry in audit.entries(corpus.store)
        if entry.type == "revocation_loaded"
        for name in entry.facts["revocations"]
    }
    names = [one for one in dict.fromkeys(line.revocation_id for line in found.register) if one not in known]
    if names:
        facts = {"version": head.number, "revocations": names, "assets": len(found.gone.every)}
        audit.append(corpus.store, "revocation_loaded", facts, seal=seal)


def alike(corpus: Corpus, before: Version, gone: Gone) -> list[str]:
    """Assets that stay, of groups of duplicates with one that goes: a person may want to look at them."""
    if not gone.uids or "dedup" not in before.artifacts:
        return []
    links = pairs.links_of(corpus, before)
    named = pa.array(sorted(gone.every), pa.string())
    columns = (schema.UID.name, schema.KEEPER.name)
    of_gone = pc.or_(*(pc.is_in(links[name], value_set=named) for name in columns))
    groups = links.filter(of_gone)[schema.GROUP.name].combine_chunks().unique()
    mine = links.filter(pc.is_in(links[schema.GROUP.name], value_set=groups))
    return sorted({uid for name in columns for uid in mine[name].to_pylist()} - gone.every)


def swept(asked: Asked, *, dry_run: bool) -> collecting.Erased:
    """Erase what no version lists, alone."""
    corpus = asked.corpus
    with corpus.writing(purpose="pardalis gc"):
        head, seal = corpus.newest(), Seal.of(config.of(asked.told).pipeline.audit)
        if not dry_run:
            proving.owed(corpus, head, seal=seal)
        found = collecting.collect(corpus, head, dry_run=dry_run)
        if found.files and not dry_run:
            audit.append(corpus.store, "gc_done", found.facts(), seal=seal)
    return found


def compacted(work: Job, head: Version, found: Found, *, packs: str) -> Version:
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
            # Packs of decisions that a later ingest changed have assets that are refused by now.
            stays = PACK in head.artifacts
            refused = set() if stays else proving.kept(corpus, before) - proving.kept(corpus, version)
            version = with_blanked(work, before, version, gone.every | refused)
    version = derived.without(work, before, version, gone.every)
    same = replace(version, as_of=head.as_of) == head
    if same:
        return head
    return work.publish(head, replace(version, floor=head.number + 1))


def steps_of(work: Job, head: Version, as_of: datetime) -> list[Step]:
    """Those that made what the version holds, but for packs. No address is followed again."""
    every = (*plan.ingest_steps(work.config, as_of), *plan.build_steps(work.config))
    wanted = {*head.artifacts, *head.models}
    for step in reversed(every):  # what a newer release makes of its own is needed by what is there
        wanted.update(step.inputs if step.name in wanted else ())
    return [step for step in every if step.name in wanted and step.name not in (PACK, fetching.STEP)]


def with_blanked(work: Job, head: Version, version: Version, gone: frozenset[str]) -> Version:
    store, corpus = work.corpus.store, work.corpus
    packs = corpus.artifact(head, PACK)
    split = corpus.artifact(head, "split").shards
    holders = load_holders(refs.each(store, split.values(), ROWS))
    inputs = {name: corpus.artifact(version, name).key for name in packs.inputs if name != PACK}
    left = blanking.blanked(store, packs, gone, holders, inputs, work.log)
    return blanking.listed(store, head, version, left)


def answer(
    found: Found, version: Version, changed: Sequence[Changed], gone: collecting.Erased, near: Sequence[str]
) -> dict[str, Any]:
    written = Counter(one.step for one in changed if one.after is not None)
    return {
        "version": version.number,
        "as_of": version.as_of,
        "revocations": len(found.new),
        "assets": len(found.gone.every),
        "shards_written": dict(written),
        "duplicates_listed": list(found.gone.others),
        "near_duplicates_listed": list(near),
        **gone.facts(),
    }


def text(facts: Mapping[str, Any]) -> str:
    written = sum(facts["shards_written"].values())
    lines = [
        f"version {facts['version']}: {facts['assets']} assets taken back, {written} shards written",
        f"erased {facts['erased_files']} files, {facts['erased_bytes'] / 1e6:.1f} MB",
    ]
    return "\n".join([*lines, *to_judge(facts)])


def to_judge(facts: Mapping[str, Any]) -> Iterator[str]:
    """What is left to a person."""
    for name, told in (
        ("duplicates_listed", "assets of other providers have the same bytes and stay"),
        ("near_duplicates_listed", "assets are near-duplicates and stay"),
    ):
        if some := facts[name]:
            shown = ", ".join(some[:MOST]) + (" …" if len(some) > MOST else "")
            yield f"{len(some)} {told}: {shown}; judge them, and revoke what is to go too"
