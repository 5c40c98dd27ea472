"""What ``bench_train`` runs of ours, as programs of their own: steps on given rows, the masks alone, a run.

``python -m tests.benchmarks.training_step {step,masks,run} JSON`` prints JSON as its last line.

Shapes: B rows, T tokens.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipeline import shards
from pipeline.blocks import Shard
from pipeline.pack import PackConfig
from pipeline.packed import Laid, Modality, Role, Span, Via
from tokenizer_service import vocabulary
from tokenizer_service.vocabulary import Live
from trainer import budget, cm3, loop, optimizer, stream
from trainer.checkpoint import Checkpoints
from trainer.cm3 import Batch
from trainer.config import TrainerConfig
from trainer.loader import Loader, LoaderSection
from trainer.loop import Streams
from trainer.model import ModelSection, Transformer, initialise
from trainer.objective import Objective
from trainer.optimizer import OptimizerSection
from trainer.order import StreamSection
from trainer.spans import MaskingSection
from trainer.stream import Masked, PackedStream

WHOLE = Live(num_text=vocabulary.MAX_TEXT, num_codes=vocabulary.MAX_CODES)


def step(given: Mapping[str, Any]) -> list[dict[str, float]]:
    """Seconds and loss of updates on rows cut into ``documents`` equal ones; nothing is masked."""
    torch.set_num_threads(given["threads"])
    shape = given["shape"]
    section = ModelSection(
        variant=given["variant"],
        num_layers=shape["layers"],
        width=shape["width"],
        num_heads=shape["heads"],
        context=shape["context"],
        head=given["head"],
    )
    model = initialise(Transformer(section, WHOLE), seed=0).train()
    objective = Objective(model, compiled=given["engine"] == "compile")
    recipe = OptimizerSection(num_steps=100, warmup_steps=0)
    adam = optimizer.build(model, recipe)
    steps = []
    for number, ids_BT in enumerate(torch.load(given["ids"])):
        began, cpu = time.perf_counter(), time.process_time()
        batch = cut(ids_BT, given["documents"])
        counted_BT = cm3.counted(batch, MaskingSection())
        with torch.autocast("cpu", torch.bfloat16, enabled=given["dtype"] == "bfloat16"):
            loss, nll_BT = objective(*batch, counted_BT / counted_BT.sum())
        loss.backward()
        optimizer.clip(adam, recipe)
        optimizer.update(adam, recipe, step=number)
        mean = nll_BT.sum().item() / int(counted_BT.sum())
        steps.append({"wall": time.perf_counter() - began, "cpu": time.process_time() - cpu, "loss": mean})
    return steps


def cut(ids_BT: Tensor, documents: int) -> Batch:
    index_BT = torch.arange(ids_BT.shape[1], dtype=torch.int32).expand_as(ids_BT)
    length = -(-ids_BT.shape[1] // documents)
    return Batch(ids_BT, index_BT // length, index_BT % length)


def laid(number: int, *, pairs: int, image: int, rng: np.random.Generator) -> Laid:
    """A retrieval-augmented document, with captions of about 11 tokens."""
    ids, spans = [vocabulary.EOS], []
    for pair in range(pairs):
        caption = int(np.clip(rng.lognormal(2.4, 0.4), 1, 60))
        role = Role.TARGET if pair == pairs - 1 else Role.NEIGHBOR
        for modality, first, length in (
            (Modality.TEXT, vocabulary.TEXT_START, caption),
            (Modality.IMAGE, vocabulary.IMAGE_START, image),
        ):
            spans.append(
                Span(
                    start=len(ids),
                    length=length,
                    modality=modality,
                    role=role,
                    uid=f"agency:{number}-{pair}",
                    revision=0,
                    via=Via.TEXT,
                )
            )
            ids += [*(first + rng.integers(0, 4096, length)), vocabulary.BREAK]
    ids[-1] = vocabulary.EOS
    return Laid(example_id=f"agency:{number}#0", ids=np.array(ids, np.uint16), spans=tuple(spans))


def packed(folder: Path, given: Mapping[str, Any]) -> list[Shard]:
    rng = np.random.default_rng(0)
    rows = [
        tuple(
            laid(row * given["a_row"] + one, pairs=given["pairs"], image=given["image"], rng=rng)
            for one in range(given["a_row"])
        )
        for row in range(given["rows"])
    ]
    longest = max(sum(len(one.ids) for one in row) for row in rows) + 12 * given["a_row"]
    config = PackConfig(context=longest, block_rows=64)
    found = []
    for number, (data, info) in enumerate(shards.write(rows, config, fingerprint="bench")):
        path = folder / f"{number:05d}.arrow"
        path.write_bytes(data)
        found.append(Shard.file(path, info))
    return found


def masks(given: Mapping[str, Any]) -> dict[str, float]:
    """Tokens a CPU second through the objective: drawing, cutting, moving, numbering, counting."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        listed = packed(Path(scratch), given)
        masked, best = Masked(masking=MaskingSection(mean_spans=given.get("mean_spans", 1.0))), 0.0
        rows: list[stream.Rows] = list(stream.in_order(listed, view=lambda one: one, batch_rows=32))
        for _ in range(5):
            began, tokens = time.process_time(), 0
            for one in rows:
                tokens += masked(one).ids_BT.numel()
            best = max(best, tokens / (time.process_time() - began))
    return {"tokens_per_cpu_s": best, "tokens_a_row": masked(rows[0]).ids_BT.shape[1]}


def run(given: Mapping[str, Any]) -> dict[str, float]:
    """Share of the time that a run of ours waited for data, and its rate."""
    with tempfile.TemporaryDirectory() as scratch:
        listed = packed(Path(scratch), given)
        config = TrainerConfig.model_validate(
            {
                "model": {
                    "num_layers": 6,
                    "width": 512,
                    "num_heads": 8,
                    "context": listed[0].info["context"],
                },
                "optimizer": {"num_steps": given["steps"], "warmup_steps": 1},
                "loop": {"report_every": given["steps"] - 2, "checkpoint_every": 1000, "threads": 2},
                "stream": {"rows_per_step": 2},
            }
        )
        source = PackedStream(
            listed, stream=StreamSection(rows_per_step=2), view=Masked(masking=MaskingSection())
        )
        found: list[Mapping[str, float]] = []
        loop.fit(
            budget.meta(config.model, WHOLE),
            Streams(train=Loader(source, LoaderSection(workers=given["workers"])), validation={}),
            config.recipe({}),
            report=found.append,
            checkpoints=Checkpoints(folder=Path(scratch) / "run"),
        )
    return {name: found[0][name] for name in ("speed/data_wait", "speed/tokens_per_s")}


def main(words: Iterable[str]) -> None:
    name, given = words
    told = {"step": step, "masks": masks, "run": run}[name](json.loads(given))
    sys.stdout.write(json.dumps(told) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
