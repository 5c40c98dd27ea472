"""Retrieval-augmented documents from references, packed into token shards.

A target is drawn several times: each document takes its own form of the caption, its own number of neighbors
and its own choice among the candidates, all from (seed, uid, document). Packing happens inside fixed groups
(generation, hash of the target's uid), so that taking one asset out never ripples through the corpus.
"""

from __future__ import annotations

import functools
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
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
from pipeline.step import ROWS, Report, Source, Step, Task, generation
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


PLAIN = FormWeights(description=1, keyword=0, color=0, long=0)


def step(config: ExampleConfig) -> Step:
    return Step(
        name="pack",
        revision=4,
        inputs=("neighbors", "tokenize", "bpe", "vq", "split"),
        settings=config,
        tasks=functools.partial(list_tasks, config=config),
        open=lambda: functools.partial(pack_group, config=config),
    )


def list_tasks(source: Source, *, config: ExampleConfig) -> Sequence[Task]:
    """A task for each generation, kind and group."""
    from pipeline.tokens import BPE, TOKENS, VQ  # noqa: PLC0415  # settings are read without torch

    neighbors, tokens = source.artifact("neighbors").shards, source.artifact("tokenize").shards
    delivered = source.artifact("records").shards
    tasks = []
    for name in sorted({generation(slot) for slot in neighbors}):
        # From the rows delivered, not from those kept: a revocation must not move the others' groups.
        rows = sum(shard.facts["rows"] for slot, shard in delivered.items() if generation(slot) == name)
        groups = 2 ** max(0, math.ceil(math.log2(max(rows, 1) / config.targets_per_group)))
        reads = {
            "neighbors": tuple(
                refs.of(source.store, shard, NEIGHBORS)
                for slot, shard in sorted(neighbors.items())
                if generation(slot) == name
            ),
            "bpe": (refs.of(source.store, source.artifact("bpe").only, BPE),),
            "vq": (refs.of(source.store, source.artifact("vq").only, VQ),),
            # Candidates look back only, so a later delivery's tokens are not read.
            "tokens": tuple(
                refs.of(source.store, shard, TOKENS)
                for slot, shard in sorted(tokens.items())
                if generation(slot) <= name
            ),
            "rows": tuple(
                refs.of(source.store, shard, ROWS)
                for slot, shard in sorted(source.artifact("split").shards.items())
                if generation(slot) <= name
            ),
        }
        tasks += [
            Task(
                slot=f"{name}-{kind}-{group:05d}",
                reads=reads,
                facts={"kind": kind, "group": group, "groups": groups},
            )
            for kind in KINDS
            for group in range(groups)
        ]
    return tasks


def pack_group(task: Task, _report: Report, *, config: ExampleConfig) -> Made:
    made_by = Tokenizers(text=task.only("bpe").sha256, image=task.only("vq").sha256)
    tokens = load_tokens(task.reads["tokens"], made_by)
    rows = [row for ref in task.reads["neighbors"] for row in tables.read_parquet(ref).to_pylist()]
    targets = [row for row in rows if mine(row, task)]
    documents = [document for row in targets for document in draw(row, task.facts["kind"], tokens, config)]
    bpe = text.from_json(task.only("bpe").read().decode())
    packed = pack.pack(documents, config.rows, cut=bpe.cut_at_word)
    tokenizers = fingerprint(made_by.text, made_by.image)
    files, infos = shards.files(packed.rows(), config.rows, fingerprint=tokenizers)
    facts = {
        "packs": infos,
        "fill": asdict(packed.fill),
        "cut_texts": packed.num_cut_texts,
        "dropped_neighbors": [asdict(one) for one in packed.dropped],
        "made_by": asdict(made_by),
        **counted(packed.documents, load_holders(task.reads["rows"])),
    }
    again = task.facts["kind"] not in {TRAIN, VALIDATION}  # held-out targets are packed twice, counted once
    return Made(files=files, counts={KEPT: 0 if again else len(targets)}, facts=facts)


Holders = Mapping[str, tuple[Sequence[str], str]]
"""By uid, the licences that admit an asset, and who is paid for it; each with its provider."""


@functools.lru_cache(maxsize=1)
def load_holders(files: tuple[refs.Ref, ...]) -> Holders:
    columns = [schema.UID, schema.LICENSES, schema.CONTRIBUTOR]
    found: dict[str, tuple[Sequence[str], str]] = {}
    for ref in files:
        for row in tables.read_parquet(ref, columns).to_pylist():
            uid, licenses, contributor = (row[column.name] for column in columns)
            provider = uid.partition(":")[0]
            found[uid] = ([f"{provider}:{name}" for name in licenses or ()], f"{provider}:{contributor}")
    return found


def counted(documents: Sequence[Document], holders: Holders) -> dict[str, dict[str, dict[str, int]]]:
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
    return {
        "licenses": {name: dict(licenses[name]) for name in sorted(licenses)},
        "contributors": {name: dict(contributors[name]) for name in sorted(contributors)},
    }


def mine(row: Mapping[str, Any], task: Task) -> bool:
    """Whether the target is of this kind and in this group."""
    if not task.facts["kind"].startswith(row["split"]):
        return False
    return bool(pack.group_of(row["uid"], task.facts["groups"]) == task.facts["group"])


@functools.lru_cache(maxsize=1)
def load_tokens(files: tuple[refs.Ref, ...], made_by: Tokenizers) -> dict[str, Tokens]:
    return tokenized.read(files, made_by)


def draw(
    row: Mapping[str, Any], kind: str, tokens: Mapping[str, Tokens], config: ExampleConfig
) -> Iterator[Document]:
    """The documents of one target: neighbors first, target last."""
    for number in range(config.documents_per_target if kind == TRAIN else 1):
        rng = captions.generator("document", config.seed, row["uid"], number)
        wanted = num_neighbors(kind, config, rng)
        weights = config.forms if kind == TRAIN else PLAIN
        forms = functools.partial(form, weights=weights, rng=rng)
        via = [exclude.VIA.index(found["via"]) for found in row["candidates"]]
        candidates = [row["candidates"][i] for i in exclude.draw(via, wanted, rng)]
        pairs = [
            pair(found["uid"], tokens, forms, via=Via[found["via"].upper()], score=found["score"])
            for found in candidates
        ]
        pairs.append(pair(row["uid"], tokens, forms, via=Via.NOTHING, score=1.0))
        yield Document(example_id=f"{row['uid']}#{number}", pairs=tuple(pairs))


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
