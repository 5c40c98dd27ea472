"""A program that reads packed rows from S3 with workers and writes down which, for tests that kill it."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
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


def in_a_thread(folder: Path) -> None:
    """Takes batches of 540 kB in a thread, as Ray Train's function runs in one, until something ends it."""
    infos = json.loads((folder / "infos.json").read_text())
    packs = [Shard.file(folder / name, info) for name, info in sorted(infos.items())]
    large = PackedStream(packs, stream=StreamSection(rows_per_step=64), view=tokens)
    loader = Loader(large, LoaderSection(workers=2, timeout_s=20))
    told: list[str] = []

    def take() -> None:
        try:
            while True:
                next(loader)
                sys.stdout.write("batch\n")
                sys.stdout.flush()
                time.sleep(0.2)
        except Exception as error:  # noqa: BLE001  # whatever it is, it is told
            told.append(f"{type(error).__name__}: {error}")

    thread = threading.Thread(target=take)
    thread.start()
    thread.join()
    sys.exit(told[0])


def main() -> None:
    if sys.argv[1] == "thread":
        in_a_thread(Path(sys.argv[2]))
    trained()


def trained() -> None:
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
