"""Retrieval-augmented documents from references, packed into token shards.

A target is drawn several times: each document takes its own form of the caption, its own number of neighbors
and its own choice among the candidates, all from (seed, uid, document). Packing happens inside fixed groups
(generation, hash of the target's uid), so that taking one asset out never ripples through the corpus.
"""

from __future__ import annotations

import functools
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import Field

from infra.artifact import Made, fingerprint
from infra.settings import Section
from pipeline import captions, pack, refs, schema, shards, tables, tokenized
from pipeline.neighbors import NEIGHBORS
from pipeline.outcomes import KEPT
from pipeline.pack import Document, PackConfig, Pair
from pipeline.packed import Via
from pipeline.split import TRAIN, VALIDATION
from pipeline.step import Report, Source, Step, Task, generation
from pipeline.tokenized import Ids, Tokenizers, Tokens
from retrieval import exclude
from tokenizer_service import text

KINDS = (TRAIN, VALIDATION, f"{VALIDATION}-alone")
"""Packs for training; held-out targets with neighbors; the same held-out targets without."""


def kind_of(slot: str) -> str:
    """The kind of a pack's slot, which is GENERATION-KIND-GROUP."""
    return slot.split("-", 1)[1].rsplit("-", 1)[0]


class FormWeights(Section):
    """How often a training document says each kind of caption form."""

    description: float = Field(0.5, gt=0)
    """As licensed."""
    keyword: float = Field(0.05, ge=0)
    """One keyword, which many pictures share."""
    color: float = Field(0.2, ge=0)
    """A derived colour and the description or a keyword."""
    long: float = Field(0.25, ge=0)
    """The description among some keywords, in any order."""
    rank_power: float = Field(1.0, ge=0)
    """Within a kind the n-th form has weight n^-rank_power: catalogs name what matters most first."""

    def shares(self, kinds: Sequence[str]) -> NDArray[np.float64]:
        """Chance of each form, given what each is; a kind that a caption lacks goes to the others."""
        shares = np.zeros(len(kinds))
        for kind in captions.KINDS:
            (places,) = np.nonzero([one == kind for one in kinds])
            ranks = np.arange(1, len(places) + 1) ** -self.rank_power
            shares[places] = getattr(self, kind) * ranks / ranks.sum()
        normalised: NDArray[np.float64] = shares / shares.sum()
        return normalised


class ExampleConfig(Section):
    documents_per_target: int = Field(1, ge=1)
    """Documents drawn for each training target; each draws its own caption form and neighbors."""
    neighbors: tuple[float, ...] = (0.25, 0.25, 0.25, 0.25)
    """Weight of 0, 1, 2, … neighbors in a training document. Validation takes the largest number."""
    forms: FormWeights = FormWeights()
    """Weights of the kinds of caption form in training. Validation takes the description as licensed."""
    targets_per_group: int = Field(4096, ge=1)
    """Targets that are packed together, about: the number of groups is fixed by the size of the delivery."""
    seed: int = 0
    rows: PackConfig = PackConfig()


POOL = 16
"""Groups at most: 65,536 targets, of six shards of 10,000. More would mix better what is packed together,
and a worker holds the neighbors of all of them."""
CONTRIBUTORS = "contributors.parquet"
HASH = pa.field("hash", pa.uint64())
PLAIN = FormWeights(description=1, keyword=0, color=0, long=0)


def step(config: ExampleConfig) -> Step:
    return Step(
        name="pack",
        revision=5,
        inputs=("neighbors", "tokenize", "bpe", "vq"),
        settings=config,
        tasks=functools.partial(list_tasks, config=config),
        open=lambda: functools.partial(pack_group, config=config),
    )


def list_tasks(source: Source, *, config: ExampleConfig) -> Sequence[Task]:
    """A task for each generation, kind and group.

    The groups of a pool, some consecutive slots, share its targets by hash; a pack reads the neighbors of its
    pool, and looks up the tokens of what its documents name.
    """
    from pipeline.tokens import BPE, TOKENS, VQ  # noqa: PLC0415  # settings are read without torch

    neighbors, tokens = source.artifact("neighbors").shards, source.artifact("tokenize").shards
    # From the rows delivered, not from those kept: a revocation must not move the others' groups.
    delivered = {slot: shard.facts["rows"] for slot, shard in source.artifact("records").shards.items()}
    files = {slot: refs.of(source.store, shard, TOKENS) for slot, shard in tokens.items()}
    models = {
        "bpe": (refs.of(source.store, source.artifact("bpe").only, BPE),),
        "vq": (refs.of(source.store, source.artifact("vq").only, VQ),),
    }
    tasks = []
    for name in sorted({generation(slot) for slot in neighbors}):
        # Candidates look back only, so a later delivery's tokens are not looked up.
        back = (slot for slot in files if generation(slot) <= name)
        directories = {"tokens": refs.Directory.of(files, back)}
        first = 0
        of_delivery = {slot: rows for slot, rows in delivered.items() if generation(slot) == name}
        for pool, slots in enumerate(pools(of_delivery, config)):
            groups = groups_of(sum(delivered[slot] for slot in slots), config)
            chosen = refs.each(source.store, (neighbors[slot] for slot in slots), NEIGHBORS)
            # What is held out of a pool, a hundredth, is one group.
            numbered = [(TRAIN, first + group, group, groups) for group in range(groups)]
            numbered += [(kind, pool, 0, 1) for kind in KINDS if kind != TRAIN]
            tasks += [
                Task(
                    slot=f"{name}-{kind}-{number:05d}",
                    reads={"neighbors": chosen, **models},
                    directories=directories,
                    facts={"kind": kind, "group": group, "groups": groups, "slots": slots},
                )
                for kind, number, group, groups in numbered
            ]
            first += groups
    return tasks


def pools(delivered: Mapping[str, int], config: ExampleConfig) -> Iterator[list[str]]:
    """Consecutive slots, at most of POOL groups' targets unless one alone has more; ``delivered``: how many
    rows each slot brought.

    >>> config = ExampleConfig(targets_per_group=100)
    >>> list(pools({"a": 1000, "b": 600, "c": 1600, "d": 5}, config))
    [['a', 'b'], ['c'], ['d']]
    """
    slots: list[str] = []
    rows = 0
    for slot in sorted(delivered):
        if slots and rows + delivered[slot] > POOL * config.targets_per_group:
            yield slots
            slots, rows = [], 0
        slots.append(slot)
        rows += delivered[slot]
    if slots:
        yield slots


def groups_of(rows: int, config: ExampleConfig) -> int:
    """A power of two."""
    return int(2 ** max(0, math.ceil(math.log2(max(rows, 1) / config.targets_per_group))))


def pack_group(task: Task, _report: Report, *, config: ExampleConfig) -> Made:
    made_by = Tokenizers(text=task.only("bpe").sha256, image=task.only("vq").sha256)
    kind = task.facts["kind"]
    targets = mine(of_pool(task.reads["neighbors"], tuple(task.facts["slots"])), task)
    drawings = [one for row in targets.to_pylist() for one in draw(row, kind, config)]
    tokens = look_up(task.directories["tokens"], drawings, made_by)
    weights = config.forms if kind == TRAIN else PLAIN
    documents = [one.document(tokens, weights) for one in drawings]
    bpe = text.from_json(task.only("bpe").read().decode())
    packed = pack.pack(documents, config.rows, cut=bpe.cut_at_word)
    tokenizers = fingerprint(made_by.text, made_by.image)
    files, infos = shards.files(packed.rows(), config.rows, fingerprint=tokenizers)
    licenses, contributors = counted(packed.documents, {uid: holder(uid, one) for uid, one in tokens.items()})
    files[CONTRIBUTORS] = tables.to_parquet(holdings(contributors))
    facts = {
        "packs": infos,
        "fill": asdict(packed.fill),
        "cut_texts": packed.num_cut_texts,
        "dropped_neighbors": [asdict(one) for one in packed.dropped],
        "made_by": asdict(made_by),
        "licenses": licenses,
    }
    again = kind not in {TRAIN, VALIDATION}  # held-out targets are packed twice, counted once
    return Made(files=files, counts={KEPT: 0 if again else targets.num_rows}, facts=facts)


Holders = Mapping[str, tuple[Sequence[str], str]]
"""By uid, the licences that admit an asset, and who is paid for it; each with its provider."""


def load_holders(files: Iterable[refs.Ref]) -> Holders:
    columns = [schema.UID, schema.LICENSES, schema.CONTRIBUTOR]
    found: dict[str, tuple[Sequence[str], str]] = {}
    for ref in files:
        for row in tables.read_parquet(ref, columns).to_pylist():
            uid, licenses, contributor = (row[column.name] for column in columns)
            found[uid] = held_by(uid, licenses or (), contributor)
    return found


def holder(uid: str, tokens: Tokens) -> tuple[Sequence[str], str]:
    return held_by(uid, tokens.licenses, tokens.contributor)


def held_by(uid: str, licenses: Sequence[str], contributor: str) -> tuple[Sequence[str], str]:
    provider = uid.partition(":")[0]
    return [f"{provider}:{name}" for name in licenses], f"{provider}:{contributor}"


Amounts = dict[str, dict[str, int]]
"""``pairs`` and ``tokens`` by name, sorted."""


def counted(documents: Sequence[Document], holders: Holders) -> tuple[Amounts, Amounts]:
    """Of each licence and of each contributor, the pairs in these documents and their tokens.

    A pair that two licences admit counts for both.
    """
    licenses: dict[str, Counter[str]] = {}
    contributors: dict[str, Counter[str]] = {}
    for pair in (pair for document in documents for pair in document.pairs):
        names, contributor = holders[pair.uid]
        amount = {"pairs": 1, "tokens": len(pair.text_ids) + len(pair.code_ids)}
        contributors.setdefault(contributor, Counter()).update(amount)
        for name in names:
            licenses.setdefault(name, Counter()).update(amount)
    by_license, by_contributor = (
        {name: dict(amounts[name]) for name in sorted(amounts)} for amounts in (licenses, contributors)
    )
    return by_license, by_contributor


def holdings(contributors: Mapping[str, Mapping[str, int]]) -> pa.Table:
    """A file of their own, since ten thousand stand in a shard: a manifest of 500 such had 290 MB."""
    columns: dict[str, object] = {schema.CONTRIBUTOR.name: list(contributors)}
    for column in (schema.PAIRS, schema.NUM_TOKENS):
        columns[column.name] = [one[column.name] for one in contributors.values()]
    return tables.typed(columns, schema.HOLDINGS)


@functools.lru_cache(maxsize=1)
def of_pool(files: tuple[refs.Ref, ...], slots: tuple[str, ...]) -> pa.Table:
    """Targets with candidates, slots and hashes: read once for packs of a pool, which follow each other."""
    found = zip(files, slots, strict=True)
    table = pa.concat_tables([tables.with_slot(tables.read_parquet(ref), slot) for ref, slot in found])
    hashes = [pack.hashed(uid) for uid in table[schema.UID.name].to_pylist()]
    return table.append_column(HASH, pa.array(hashes, HASH.type))


def mine(targets: pa.Table, task: Task) -> pa.Table:
    """Those of the task's kind and group."""
    split = TRAIN if task.facts["kind"] == TRAIN else VALIDATION
    of_kind = np.asarray(pc.equal(targets[schema.SPLIT.name], split))
    groups = np.asarray(targets[HASH.name]) % np.uint64(task.facts["groups"])
    return targets.filter(of_kind & (groups == task.facts["group"]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """A document before its tokens are there: what it names, and the lots that are left to it."""

    example_id: str
    pairs: Sequence[Mapping[str, Any]]
    """Neighbors first, the target last, as rows with ``uid``, ``slot``, ``score`` and ``via``."""
    rng: np.random.Generator

    def document(self, tokens: Mapping[str, Tokens], weights: FormWeights) -> Document:
        forms = functools.partial(form, weights=weights, rng=self.rng)
        pairs = [
            pair(one["uid"], tokens, forms, via=Via[one["via"].upper()], score=one["score"])
            for one in self.pairs
        ]
        return Document(example_id=self.example_id, pairs=tuple(pairs))


def draw(row: Mapping[str, Any], kind: str, config: ExampleConfig) -> Iterator[Drawn]:
    """The documents of one target."""
    target = {"uid": row["uid"], "slot": row["slot"], "score": 1.0, "via": Via.NOTHING.name}
    via = [exclude.VIA.index(found["via"]) for found in row["candidates"]]
    for number in range(config.documents_per_target if kind == TRAIN else 1):
        rng = captions.generator("document", config.seed, row["uid"], number)
        wanted = num_neighbors(kind, config, rng)
        neighbors = [row["candidates"][i] for i in exclude.draw(via, wanted, rng)]
        yield Drawn(example_id=f"{row['uid']}#{number}", pairs=[*neighbors, target], rng=rng)


def look_up(directory: refs.Directory, drawings: Iterable[Drawn], made_by: Tokenizers) -> dict[str, Tokens]:
    """Of all that the documents name, by uid."""
    wanted: dict[str, set[str]] = {}
    for pair in (pair for one in drawings for pair in one.pairs):
        wanted.setdefault(pair["slot"], set()).add(pair["uid"])
    return {
        uid: found
        for slot in sorted(wanted)
        for uid, found in tokenized.picked(directory.files[slot], wanted[slot], made_by)
    }


def num_neighbors(kind: str, config: ExampleConfig, rng: np.random.Generator) -> int:
    """Drawn in training; all or none in validation."""
    if kind == TRAIN:
        weights = np.asarray(config.neighbors) / sum(config.neighbors)
        return int(rng.choice(len(weights), p=weights))
    return len(config.neighbors) - 1 if kind == VALIDATION else 0


def form(found: Tokens, *, weights: FormWeights, rng: np.random.Generator) -> Ids:
    """A form of the caption: its kind by weight, then one of that kind by rank."""
    return found.texts[int(rng.choice(len(found.texts), p=weights.shares(found.kinds)))]


def pair(
    uid: str, tokens: Mapping[str, Tokens], forms: Callable[[Tokens], Ids], *, via: Via, score: float
) -> Pair:
    found = tokens[uid]
    return Pair(
        uid=uid,
        revision=found.revision,
        text_ids=forms(found),
        code_ids=found.codes,
        via=via,
        score=score,
    )
