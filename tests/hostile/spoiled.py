"""Ways to spoil a good delivery, each a function that writes it into its folder."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

from .made import GOOD, Parcel, lines

Make = Callable[[Parcel], None]


def saying(**changes: Any) -> Make:
    """A good delivery whose ``delivery.json`` says something else."""
    return lambda parcel: parcel.good(**changes)


def raw(change: Callable[[str], str]) -> Make:
    """A good delivery whose ``delivery.json`` is other text."""

    def make(parcel: Parcel) -> None:
        parcel.good()
        text = (parcel.folder / "delivery.json").read_text()
        parcel.put("delivery.json", change(text).encode("utf-8", "surrogatepass"))

    return make


def listing(change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> Make:
    """A good delivery that lists its files otherwise; the shard is the last."""

    def make(parcel: Parcel) -> None:
        parcel.good()
        parcel.put(
            "delivery.json", json.dumps({**(m := parcel.manifest()), "files": change(m["files"])}).encode()
        )

    return make


def last(**changes: Any) -> Make:
    return listing(lambda files: [*files[:-1], {**files[-1], **changes}])


def licensed(*texts: str | dict[str, Any]) -> Make:
    """A good delivery with other licences, each a record or raw text."""
    text = "\n".join(one if isinstance(one, str) else json.dumps(one) for one in texts)
    return lambda parcel: parcel.good(licenses=text.encode())


def revoking(*records: dict[str, Any], **changes: Any) -> Make:
    def make(parcel: Parcel) -> None:
        parcel.put("revocations.jsonl", lines(*records))
        parcel.good(**changes)

    return make


def with_file(path: str, data: bytes = b"x") -> Make:
    def make(parcel: Parcel) -> None:
        parcel.good()
        parcel.put(path, data)

    return make


def linked(path: str, target: str) -> Make:
    """A file of the delivery is a link to a file of the machine."""

    def make(parcel: Parcel) -> None:
        parcel.good()
        (parcel.folder / path).unlink()
        (parcel.folder / path).symlink_to(target)

    return make


def pipe(path: str) -> Make:
    """A file of the delivery is a pipe that nobody writes to: whoever opens it waits for ever."""

    def make(parcel: Parcel) -> None:
        parcel.good()
        (parcel.folder / path).unlink()
        os.mkfifo(parcel.folder / path)
        if path != "delivery.json":
            files = [
                {**file, "bytes": 0} if file["path"] == path else file for file in parcel.manifest()["files"]
            ]
            parcel.put("delivery.json", json.dumps({**parcel.manifest(), "files": files}).encode())

    return make


def linked_folder(parcel: Parcel) -> None:
    parcel.good()
    (parcel.folder / "shards").rename(parcel.folder.parent / "elsewhere")
    (parcel.folder / "shards").symlink_to(parcel.folder.parent / "elsewhere")


def folder_as_manifest(parcel: Parcel) -> None:
    (parcel.folder / "delivery.json").mkdir(parents=True)


def a_file(parcel: Parcel) -> None:
    parcel.folder.write_bytes(GOOD)


def nothing(_parcel: Parcel) -> None:
    """No such folder."""


def empty(parcel: Parcel) -> None:
    parcel.folder.mkdir()


def odd_name(parcel: Parcel) -> None:
    parcel.good()
    (parcel.folder / os.fsdecode(b"\xff\x1b[2J\n.tar")).write_bytes(b"")


def many_files(count: int) -> Make:
    entry = {"path": "shards/x.tar", "sha256": "0" * 64, "bytes": 1, "role": "shard"}

    def make(parcel: Parcel) -> None:
        parcel.good()
        text = json.dumps({**parcel.manifest(), "files": []})
        parcel.put("delivery.json", text.replace("[]", f"[{','.join([json.dumps(entry)] * count)}]").encode())

    return make
