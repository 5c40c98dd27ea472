"""Deliveries that img2dataset itself wrote, of pictures in a local folder."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from .agencies import JUDGED, Parcel, encoded

Columns = Mapping[str, Sequence[Any]]


def downloaded(folder: Path, columns: Columns, **resizing: Any) -> dict[str, bytes]:
    """``00000.tar``, ``00000.parquet`` and ``00000_stats.json`` of a user's table."""
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # it would ask the network when it is imported
    from img2dataset.downloader import Downloader  # noqa: PLC0415
    from img2dataset.resizer import Resizer  # noqa: PLC0415
    from img2dataset.writer import WebDatasetSampleWriter  # noqa: PLC0415

    table, shard, out = pa.table(dict(columns)), folder / "0.feather", folder / "out"
    out.mkdir(parents=True)
    with pa.ipc.new_file(str(shard), table.schema) as writer:
        writer.write_table(table)
    download = Downloader(
        sample_writer_class=WebDatasetSampleWriter,
        resizer=Resizer(
            **{"image_size": 8, "resize_mode": "keep_ratio", "resize_only_if_bigger": False, **resizing}
        ),
        thread_count=1,
        save_caption="caption" in columns,
        extract_exif=True,
        output_folder=str(out),
        column_list=list(columns),
        timeout=10,
        number_sample_per_shard=10,
        oom_shard_count=5,
        compute_hash="sha256",
        verify_hash_type=None,
        encode_format="jpg",
        retries=0,
        user_agent_token=None,
        disallowed_header_directives=["noai"],
    )
    download.download_shard((0, str(shard)))
    return {path.name: path.read_bytes() for path in sorted(out.iterdir())}


PICTURES = "abcde"


def pictures(folder: Path) -> list[str]:
    """Addresses of five pictures, and of one that is not there; a fragment is no part of a file's name."""
    folder.mkdir(parents=True, exist_ok=True)
    for color, name in enumerate(PICTURES):
        (folder / f"{name}.jpg").write_bytes(encoded(color, side=16))
    return [f"file://{folder}/{name}.jpg#token=secret" for name in (*PICTURES, "missing")]


def img2dataset(folder: Path, columns: Columns | None = None, **resizing: Any) -> Parcel:
    """Five pictures, resized and encoded anew, and one that is missing; or what ``columns`` say."""
    told = {
        "license": ["CC0", *["all mine"] * 5],
        "caption": [f"Square {number}" for number in range(6)],
        "url": pictures(folder),
    }
    files = downloaded(folder / "run", told if columns is None else columns, **resizing)
    roles = {"00000_stats.json": "readme"}
    return Parcel(form="img2dataset", files=files, roles=roles, every_asset=JUDGED)
