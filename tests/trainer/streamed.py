"""A program that reads packed rows from S3 with workers and writes down which, for tests that kill it."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from infra.pieces import PiecesSection
from infra.storage import Store
from pipeline.blocks import Shard
from trainer.loader import Loader, LoaderSection
from trainer.order import StreamSection
from trainer.stream import PackedStream, tokens

ORDER = StreamSection(rows_per_step=8, lanes=6, window_blocks=2)


def listed(store: Store) -> list[Shard]:
    infos = json.loads(store.read("infos.json"))
    return [Shard(store=store, name=name, info=info) for name, info in sorted(infos.items())]


def stream(store: Store, pieces: PiecesSection | None = None) -> PackedStream:
    return PackedStream(listed(store), stream=ORDER, view=tokens, pieces=pieces)


def main() -> None:
    """``URI OUT WORKERS STEPS PATIENCE``: a line of row numbers a step; goes on where OUT ends."""
    uri, out, workers, steps, patience = sys.argv[1:]
    section = LoaderSection(workers=int(workers), patience_s=float(patience))
    source = stream(Store.at(uri), section)
    path = Path(out)
    done = len(path.read_text().splitlines()) if path.exists() else 0
    source.load_state_dict(source.state_after(done))
    loader = Loader(source, section)
    with path.open("a") as file:
        for _ in range(int(steps) - done):
            batch = next(loader)
            file.write(json.dumps([int(row[2]) for row in batch]) + "\n")
            file.flush()
            os.fsync(file.fileno())


if __name__ == "__main__":
    main()
