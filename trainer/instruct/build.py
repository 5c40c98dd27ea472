"""The step ``instruct``: from training images and catalog rows to packs of instruction examples.

The surprising rule: it goes shard to shard, so examples are made of pictures of one shard. Beside the packs
it leaves a row for each example (:mod:`trainer.instruct.listing`).
"""

from __future__ import annotations

import functools
import itertools
import math
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import Field, field_validator

from infra.artifact import Made, fingerprint
from infra.corpus import Corpus, Version
from infra.settings import Section
from pipeline import (
    captions,
    contract,
    encoding,
    numerics,
    pack,
    reading,
    refs,
    rows,
    schema,
    shards,
    tables,
    tokenized,
)
from pipeline.colors import Pixels
from pipeline.examples import load_holders
from pipeline.outcomes import KEPT
from pipeline.pack import PackConfig
from pipeline.packed import Laid
from pipeline.records import RECORDS as DELIVERED
from pipeline.split import TRAIN, VALIDATION
from pipeline.step import IMAGES, ROWS, Report, Source, Step, Task, aligned
from pipeline.tokenized import Tokenizers
from pipeline.tokens import BPE, LIBRARIES, TEXT_NUMERICS, TOKENS, VQ
from tokenizer_service import coding, text, vq
from tokenizer_service.coding import Numerics
from trainer import tasks
from trainer.instruct import importing, laying, listing, making
from trainer.instruct.laying import Credit, Part
from trainer.instruct.listing import RECORDS
from trainer.instruct.making import Amounts
from trainer.instruct.maps import MAPS
from trainer.instruct.world import Asset, Example, World, line
from trainer.tasks import Picture

STEP = "instruct"
KINDS = (TRAIN, VALIDATION)
MOST, LEAST = 3.0, 0.3
"""No task is repeated more often, and of none is less kept (arXiv 2309.02591, appendix E.1)."""


class InstructSection(Section):
    """``[trainer.instruct]``: instruction data made of a corpus."""

    each: Amounts = Amounts()
    """How many examples are made of one asset."""
    maps: tuple[str, ...] = Field(default=tuple(sorted(MAPS)), min_length=1)
    """Kinds of maps that are made; of scenes one by lot, so what is named twice is made twice as often."""
    weights: dict[str, float] = Field(default_factory=dict)
    """By task, its share of the examples, in any unit; what is not named keeps the number that was made.

    An example is repeated 3 times at most, and three tenths are kept at least.
    """
    seed: int = 0

    @field_validator("maps")
    @classmethod
    def _are_made(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if unknown := sorted(set(names) - set(MAPS)):
            raise ValueError(f"no maps are made of {', '.join(unknown)}; they are {', '.join(sorted(MAPS))}")
        return tuple(sorted(names))


class InstructConfig(Section):
    """What the packs depend on."""

    instruct: InstructSection
    rows: PackConfig
    """As the version's other packs have them: a run reads both."""
    side: int
    encode: Numerics


def step(config: InstructConfig) -> Step:
    device = numerics.device()
    workers = numerics.workers(cpus=1 if device == "cpu" else encoding.GPU_THREADS, gpus=0.25)
    return Step(
        name=STEP,
        revision=2,
        inputs=("split", "images", "records", "tokenize", "bpe", "vq"),
        settings=config,
        numerics={
            **numerics.profile(threads=workers.cpus, libraries=LIBRARIES, device=device),
            **TEXT_NUMERICS,
        },
        workers=workers,
        tasks=list_tasks,
        open=lambda: functools.partial(make, config=config),
    )


def config_of(corpus: Corpus, version: Version, section: InstructSection) -> InstructConfig:
    """With the rows, the side and the numerics of the version's packs and tokens."""
    rows_of, encoded_as = (corpus.artifact(version, name).settings for name in ("pack", "tokenize"))
    values = {
        "instruct": section.model_dump(mode="json"),
        "rows": rows_of["rows"],
        "side": encoded_as["side"],
        "encode": encoded_as["encode"],
    }
    return reading.validated(InstructConfig, values, f"the settings of version {version.number}")


def list_tasks(source: Source) -> Sequence[Task]:
    """Of each shard the training part and the held-out one."""
    found = aligned(
        source,
        rows=("split", ROWS),
        images=("images", IMAGES),
        records=("records", DELIVERED),
        tokens=("tokenize", TOKENS),
        bpe=("bpe", BPE),
        vq=("vq", VQ),
    )
    return [
        Task(slot=slot(task.slot, kind), reads=task.reads, facts={"kind": kind})
        for task in found
        for kind in KINDS
    ]


def slot(of_split: str, kind: str) -> str:
    """GENERATION-KIND-SHARD, as packs have them.

    >>> slot("00012-000345", "train")
    '00012-train-000345'
    """
    generation, _, shard = of_split.partition("-")
    return f"{generation}-{kind}-{shard}"


def make(task: Task, _report: Report, *, config: InstructConfig) -> Made:
    kind = task.facts["kind"]
    made_by = Tokenizers(text=task.only("bpe").sha256, image=task.only("vq").sha256)
    bpe, model = opened(task.only("bpe"), task.only("vq"))
    assets = load_assets(task, kind, config, model)
    records = own_records(task.only("records"), {asset.uid: asset.revision for asset in assets})
    bare = {one.uid for one in records if importing.UNCAPTIONED in one.extra}
    assets = [replace(asset, is_captioned=asset.uid not in bare) for asset in assets]
    world = World(assets, split=kind, side=config.side, seed=config.instruct.seed, maps=config.instruct.maps)
    given, left = brought(records, assets)
    found = named(itertools.chain(making.examples(world, config.instruct.each), given))
    codes = {**own_codes(task, made_by), **encoded(found.values(), model, config)}
    revisions = {asset.uid: asset.revision for asset in assets}
    amounts = copies(found, config.instruct) if kind == TRAIN else dict.fromkeys(found, 1)
    laid = list(documents(found, amounts, bpe.encode, codes, revisions))
    fits = [one for one in laid if len(one.ids) + room(config.rows) <= config.rows.capacity]
    held = Counter(one.example_id.partition("#")[0] for one in fits)
    kept = {name: one for name, one in found.items() if held[name]}
    originals = {asset.uid: asset.pixels for asset in assets} if kind == VALIDATION else None
    table = listing.told(kept, held, load_holders(task.reads["rows"]), originals)
    files, facts = packed(fits, config.rows, made_by)
    return Made(
        files={**files, RECORDS: tables.to_parquet(table)},
        counts={KEPT: len(assets)},
        facts={
            **facts,
            "made_by": asdict(made_by),
            "examples": dict(sorted(Counter(name.partition(":")[0] for name in found).items())),
            "documents": dict(sorted(Counter(one.example_id.partition(":")[0] for one in fits).items())),
            "too_long": len(laid) - len(fits),
            "brought": {"taken": len(given), **left},
        },
    )


@functools.lru_cache(maxsize=1)
def opened(bpe: refs.Ref, vq_ref: refs.Ref) -> tuple[text.TextTokenizer, vq.VQ]:
    """Once a worker."""
    return text.from_json(bpe.read().decode()), vq.load(vq_ref.read()).to(numerics.device())


def load_assets(task: Task, split: str, config: InstructConfig, model: vq.VQ) -> list[Asset]:
    table = rows.with_images(rows.kept(task.only("rows")), task.only("images"))
    shaped = functools.partial(encoding.square, side=config.side, preprocessing=model.config.preprocessing)
    return [
        asset_of(row, shaped(row[schema.IMAGE.name]))
        for row in table.to_pylist()
        if row[schema.SPLIT.name] == split
    ]


def asset_of(row: Mapping[str, Any], pixels: Pixels) -> Asset:
    """A catalog row and its picture at the model's side."""
    return Asset(
        uid=row[schema.UID.name],
        revision=row[schema.REVISION.name],
        name=line(row[schema.DESCRIPTION.name]),
        keywords=tuple(row[schema.KEYWORDS.name]),
        color=row[schema.COLOR.name],
        image_type=row[schema.IMAGE_TYPE.name],
        may_derive=row[schema.MAY_DERIVE.name],
        pixels=pixels,
    )


def own_records(ref: refs.Ref, revisions: Mapping[str, int]) -> list[contract.Asset]:
    """What was delivered of these assets, in these revisions."""
    table = tables.read_parquet(ref, [schema.UID, schema.RECORD, schema.FAULT])
    sound = pc.and_(table[schema.RECORD.name].is_valid(), table[schema.FAULT.name].is_null())
    wanted = pa.array(sorted(revisions), schema.UID.type)
    mine = table.filter(pc.and_(sound, pc.is_in(table[schema.UID.name], value_set=wanted)))
    delivered = (contract.Asset.model_validate_json(one) for one in mine[schema.RECORD.name].to_pylist())
    return [one for one in delivered if one.asset_revision == revisions[one.uid]]


def brought(
    delivered: Sequence[contract.Asset], assets: Sequence[Asset]
) -> tuple[list[Example], dict[str, int]]:
    """Examples that assets brought along, and how many were left: of pictures that are not all here, and
    those that cannot be read.
    """
    here = {asset.uid for asset in assets}
    found: list[Example] = []
    left = {"apart": 0, "unreadable": 0}
    for one in delivered:
        try:
            records = list(importing.delivered(one))
        except ValueError:
            # A template's words that nobody wrote, or no JSON: the picture is good all the same.
            left["unreadable"] += 1
            continue
        for record in records:
            named = {picture.uid for picture in tasks.pictures(record)}
            if named <= here:
                found.append(Example(record=record, words=one.uid, sources=tuple(sorted(named | {one.uid}))))
            else:
                left["apart"] += 1
    return found, left


def named(found: Iterator[Example]) -> dict[str, Example]:
    """By id, TASK:HASH; two examples that say the same of the same pictures are one."""
    return {example_id(one): one for one in found}


def example_id(example: Example) -> str:
    said = [one.uid if isinstance(one, Picture) else one for one in tasks.said(tasks.prompt(example.record))]
    return f"{tasks.NAMES[type(example.record)]}:{captions.digest(*said).hex()[:24]}"


def own_codes(task: Task, made_by: Tokenizers) -> dict[str, NDArray[np.integer]]:
    """Of the assets themselves: what was made of them before."""
    found = tokenized.read(task.reads["tokens"], made_by)
    return {uid: tokens.codes for uid, tokens in found.items()}


def encoded(
    found: Collection[Example], model: vq.VQ, config: InstructConfig
) -> dict[str, NDArray[np.integer]]:
    """Codes of what was derived."""
    pictures = {uid: picture for one in found for uid, picture in one.pictures.items()}
    none = np.zeros((0, config.side, config.side, 3), np.uint8)
    stacked = np.stack(list(pictures.values())) if pictures else none
    codes_BT = coding.encode_images(model, stacked, numerics=config.encode)
    return dict(zip(pictures, codes_BT, strict=True))


def copies(found: Mapping[str, Example], section: InstructSection) -> dict[str, int]:
    """How often each example is packed: a whole number, whose mean over a task is its :func:`repeats`."""
    wanted = repeats(Counter(tasks.NAMES[type(one.record)] for one in found.values()), section.weights)
    times = {}
    for name in found:
        rate = wanted[name.partition(":")[0]]
        draw = int.from_bytes(captions.digest("copies", section.seed, name)[:8], "big") / 2**64
        times[name] = math.floor(rate) + (draw < rate % 1)
    return times


def repeats(made: Mapping[str, int], weights: Mapping[str, float]) -> dict[str, float]:
    """How often each example of a task is said, so that tasks have the shares that are asked for.

    Between 0.3 and 3 (arXiv 2309.02591, appendix E.1); tasks without a weight stay as they are.

    >>> repeats({"edit": 100, "sign": 300}, {"edit": 1, "sign": 1})
    {'edit': 2.0, 'sign': 0.6666666666666666}
    >>> repeats({"edit": 10, "sign": 3000}, {"edit": 1, "sign": 1})
    {'edit': 3.0, 'sign': 0.5016666666666667}
    """
    total = sum(made[name] for name in made if name in weights)
    shares = sum(weights[name] for name in made if name in weights)
    wanted = {
        name: total * weights[name] / shares / number if name in weights else 1.0
        for name, number in made.items()
    }
    return {name: min(MOST, max(LEAST, rate)) if name in weights else rate for name, rate in wanted.items()}


def documents(
    found: Mapping[str, Example],
    amounts: Mapping[str, int],
    encode: laying.Encode,
    codes: laying.Codes,
    revisions: Mapping[str, int],
) -> Iterator[Laid]:
    """Every example as often as it is wanted, in the order of ids."""
    for name, example in sorted(found.items()):
        segments = laying.parts(tasks.prompt(example.record), encode, codes)

        def credit(part: Part, words: str = example.words) -> Credit:
            whose = part.picture or words
            return Credit(uid=whose, revision=revisions.get(whose, 0))

        for number in range(amounts[name]):
            yield laying.laid(f"{name}#{number}", example.record, segments, credit)


def room(config: PackConfig) -> int:
    """Tokens that masking may add to a document."""
    return pack.TOKENS_PER_SPAN * config.max_spans


def packed(
    found: Sequence[Laid], config: PackConfig, made_by: Tokenizers
) -> tuple[dict[str, bytes], dict[str, Any]]:
    """Shards of whole documents, and what their manifest says."""
    lengths = [len(one.ids) for one in found]
    pieces = pack.whole_rows(lengths, config)
    in_rows = (tuple(found[piece.document] for piece in row) for row in pieces)
    tokenizers = fingerprint(made_by.text, made_by.image)
    files, infos = shards.files(in_rows, config, fingerprint=tokenizers)
    return files, {"packs": infos, "fill": asdict(pack.filling(lengths, pieces, config))}
