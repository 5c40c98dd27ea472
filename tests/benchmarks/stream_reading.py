"""One epoch of one reader, as a program of its own: peers have other pins, and nobody warms another's caches.

``write READER DATA FOLDER`` and ``read READER FOLDER WORKERS``, which prints JSON. Every reader shuffles in a
window of WINDOW rows and gives batches of BATCH rows as int64 tensors [BATCH, T]. CPU seconds are of this
process and its workers, from the first batch asked for to the last; imports are left out.
"""

from __future__ import annotations

import io
import json
import os
import resource
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

BATCH, WINDOW, BLOCK = 64, 1024, 256
SEED = 7
ROWS_OF_A_TAR = 4096


def write_pardalis(rows: np.ndarray, folder: Path) -> None:
    from pipeline import shards
    from pipeline.pack import PackConfig
    from pipeline.packed import Laid, Modality, Role, Span, Via

    def laid(number: int, ids: np.ndarray) -> tuple[Laid, ...]:
        """Four pairs, as a retrieval-augmented document has."""
        part = len(ids) // 8
        spans = tuple(
            Span(
                start=1 + piece * part,
                length=part - 1,
                modality=Modality(piece % 2),
                role=Role.NEIGHBOR if piece < 6 else Role.TARGET,
                uid=f"agency:{number}-{piece // 2}",
                revision=0,
                via=Via.TEXT,
            )
            for piece in range(8)
        )
        return (Laid(example_id=f"agency:{number}#0", ids=ids, spans=spans),)

    config = PackConfig(context=rows.shape[1] - 1, block_rows=BLOCK)
    infos = {}
    written = shards.write((laid(*one) for one in enumerate(rows)), config, fingerprint="bench")
    for number, (data, info) in enumerate(written):
        infos[f"{number:05d}.arrow"] = info
        (folder / f"{number:05d}.arrow").write_bytes(data)
    (folder / "infos.json").write_text(json.dumps(infos))


def pardalis(folder: Path, workers: int, lanes: int = 1) -> Iterator[Any]:
    from trainer.loader import Loader, LoaderSection

    return iter(Loader(packed(folder, lanes), LoaderSection(workers=workers)))


def pardalis_plain(folder: Path, workers: int) -> Iterator[Any]:
    """By PyTorch's own loader."""
    from torch.utils.data import DataLoader

    return iter(DataLoader(packed(folder, 1), batch_size=None, num_workers=workers))


def packed(folder: Path, lanes: int) -> Any:
    from pipeline.blocks import Shard
    from trainer.order import StreamSection
    from trainer.stream import PackedStream, tokens

    infos = json.loads((folder / "infos.json").read_text())
    return PackedStream(
        [Shard.file(folder / name, info) for name, info in sorted(infos.items())],
        stream=StreamSection(seed=SEED, rows_per_step=BATCH, lanes=lanes, window_blocks=WINDOW // BLOCK),
        view=tokens,
        epochs=1,
    )


def pardalis_256(folder: Path, workers: int) -> Iterator[Any]:
    """With the 256 lanes of the default: a window 256 times as large."""
    return pardalis(folder, workers, lanes=256)


def write_rows(rows: np.ndarray, folder: Path) -> None:
    np.save(folder / "rows.npy", rows)


def copies(folder: Path, workers: int) -> Iterator[Any]:
    """The floor: rows copied one by one from a memory map, in a random order, and nothing else."""
    assert workers == 0
    rows = np.load(folder / "rows.npy", mmap_mode="r")
    for number in np.random.default_rng(SEED).permutation(len(rows)).tolist():
        yield np.array(rows[number])


def write_litdata(rows: np.ndarray, folder: Path) -> None:
    _optimized(rows, folder, None)


def write_litdata_tokens(rows: np.ndarray, folder: Path) -> None:
    from litdata import TokensLoader

    _optimized(rows, folder, TokensLoader(block_size=rows.shape[1]))


def _optimized(rows: np.ndarray, folder: Path, loader: Any) -> None:
    import litdata
    import torch

    made = _tensor if loader else _array
    np.save(folder / "source.npy", rows)
    litdata.optimize(
        fn=made,
        inputs=[(str(folder / "source.npy"), number) for number in range(len(rows))],
        output_dir=str(folder / "data"),
        chunk_size=WINDOW * rows.shape[1] if loader else WINDOW,
        item_loader=loader,
        num_workers=1,
    )
    (folder / "source.npy").unlink()
    assert torch is not None


def _array(source: tuple[str, int]) -> Any:
    return np.array(np.load(source[0], mmap_mode="r")[source[1]])


def _tensor(source: tuple[str, int]) -> Any:
    import torch

    return torch.from_numpy(_array(source))


def litdata(folder: Path, workers: int) -> Iterator[Any]:
    return _litdata(folder, workers, None)


def litdata_tokens(folder: Path, workers: int) -> Iterator[Any]:
    from litdata import TokensLoader

    width = int((folder / "width").read_text())
    return _litdata(folder, workers, TokensLoader(block_size=width))


def _litdata(folder: Path, workers: int, loader: Any) -> Iterator[Any]:
    from litdata import StreamingDataLoader, StreamingDataset

    data = StreamingDataset(str(folder / "data"), item_loader=loader, shuffle=True, seed=SEED)
    return iter(StreamingDataLoader(data, batch_size=BATCH, num_workers=workers, collate_fn=stacked))


def stacked(rows: list[Any]) -> Any:
    """The fastest way that we found: one copy that widens, whatever the reader gives."""
    import torch

    found = np.empty((len(rows), len(rows[0])), np.int64)
    for place, row in enumerate(rows):
        found[place] = row.numpy() if isinstance(row, torch.Tensor) else row
    return torch.from_numpy(found)


def write_mosaic(rows: np.ndarray, folder: Path) -> None:
    from streaming import MDSWriter

    with MDSWriter(out=str(folder / "data"), columns={"tokens": f"ndarray:uint16:{rows.shape[1]}"}) as out:
        for row in rows:
            out.write({"tokens": row})


def mosaic(folder: Path, workers: int) -> Iterator[Any]:
    from streaming import StreamingDataset
    from torch.utils.data import DataLoader

    data = StreamingDataset(
        local=str(folder / "data"),
        shuffle=True,
        shuffle_seed=SEED,
        shuffle_block_size=WINDOW,
        batch_size=BATCH,
        num_canonical_nodes=1,
    )
    return iter(DataLoader(data, batch_size=BATCH, num_workers=workers, collate_fn=stacked_tokens))


def stacked_tokens(rows: list[dict[str, Any]]) -> Any:
    return stacked([row["tokens"] for row in rows])


def write_webdataset(rows: np.ndarray, folder: Path) -> None:
    _tars(rows, folder, "bin", lambda row: row.tobytes())


def write_webdataset_npy(rows: np.ndarray, folder: Path) -> None:
    _tars(rows, folder, "npy", as_npy)


def as_npy(row: np.ndarray) -> bytes:
    sink = io.BytesIO()
    np.save(sink, row)
    return sink.getvalue()


def _tars(rows: np.ndarray, folder: Path, ending: str, encoded: Callable[[np.ndarray], bytes]) -> None:
    for first in range(0, len(rows), ROWS_OF_A_TAR):
        with tarfile.open(folder / f"{first:06d}.tar", "w") as tar:
            for number, row in enumerate(rows[first : first + ROWS_OF_A_TAR], first):
                data = encoded(row)
                member = tarfile.TarInfo(f"{number:08d}.{ending}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))


def webdataset(folder: Path, workers: int) -> Iterator[Any]:
    """Members of bare bytes, which it hands on as they are."""
    return _webdataset(folder, workers, lambda tars: tars.map(of_bytes))


def webdataset_npy(folder: Path, workers: int) -> Iterator[Any]:
    """Members as ``.npy``, and its own decoder."""
    return _webdataset(folder, workers, lambda tars: tars.decode().map(of_npy))


def _webdataset(folder: Path, workers: int, decoded: Callable[[Any], Any]) -> Iterator[Any]:
    import webdataset as wds
    from torch.utils.data import DataLoader

    tars = sorted(str(path) for path in folder.glob("*.tar"))
    data = wds.WebDataset(tars, shardshuffle=len(tars), seed=SEED).shuffle(WINDOW)
    data = decoded(data).batched(BATCH, collation_fn=stacked)
    return iter(DataLoader(data, batch_size=None, num_workers=workers))


def of_bytes(sample: dict[str, bytes]) -> Any:
    return np.frombuffer(sample["bin"], np.uint16)


def of_npy(sample: dict[str, Any]) -> Any:
    return sample["npy"]


WRITERS: dict[str, Callable[[np.ndarray, Path], None]] = {
    "pardalis": write_pardalis,
    "copies": write_rows,
    "litdata": write_litdata,
    "litdata_tokens": write_litdata_tokens,
    "mosaic": write_mosaic,
    "webdataset": write_webdataset,
    "webdataset_npy": write_webdataset_npy,
}
READERS: dict[str, Callable[[Path, int], Iterator[Any]]] = {
    "pardalis": pardalis,
    "pardalis_256": pardalis_256,
    "pardalis_plain": pardalis_plain,
    "copies": copies,
    "litdata": litdata,
    "litdata_tokens": litdata_tokens,
    "mosaic": mosaic,
    "webdataset": webdataset,
    "webdataset_npy": webdataset_npy,
}


def cpu_seconds() -> float:
    """Of this process and of the workers that have ended."""
    spent = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in spent)


def read(name: str, folder: Path, workers: int) -> dict[str, float]:
    import torch

    torch.set_num_threads(1)
    batches = READERS[name](folder, workers)
    before, began = cpu_seconds(), time.perf_counter()
    rows = total = 0
    for batch in batches:
        rows += 1 if batch.ndim == 1 else len(batch)
        total += int(batch[..., 0].sum())
        if name != "copies":
            assert batch.dtype == torch.int64
    wall = time.perf_counter() - began
    del batches  # its workers end, and are counted
    for _ in range(50):
        if workers == 0 or not _children():
            break
        time.sleep(0.1)
    return {"rows": rows, "first_tokens": total, "cpu_s": cpu_seconds() - before, "wall_s": wall}


def _children() -> bool:
    import multiprocessing

    return bool(multiprocessing.active_children())


def main() -> None:
    verb, name, *rest = sys.argv[1:]
    if verb == "write":
        rows, folder = np.load(rest[0], mmap_mode="r"), Path(rest[1])
        folder.mkdir(parents=True)
        (folder / "width").write_text(str(rows.shape[1]))
        WRITERS[name](rows, folder)
        sys.stdout.write("{}\n")
    else:
        sys.stdout.write(json.dumps(read(name, Path(rest[0]), int(rest[1]))) + "\n")
    sys.stdout.flush()
    os._exit(0)  # a peer's threads need not be waited for


if __name__ == "__main__":
    main()
