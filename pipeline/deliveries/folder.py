"""Form (iii) of a delivery: images, each with what is known of it beside it or inside it.

``any/NAME.jpg`` may have ``NAME.json``, fields of its asset record, and ``NAME.xmp``. What describes it is
taken from the first that says it: the JSON, the XMP sidecar, then XMP, IPTC and EXIF inside the image. What
speaks of rights is read from all of them, and the most restrictive holds. NAME is the asset id; a name that
cannot be one gets an id of its own, and is kept.

The surprising rule: folders mean nothing. A name is one asset wherever its files lie, and one that is given
in two folders is refused, since nobody could say which of them counts. So are two names with one id, and what
lies beside an image under its name in another case: it may forbid what the image alone would allow.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from infra.guarded import json, nfc
from infra.guarded.refused import Refused
from pipeline import description, stated
from pipeline.contract import Delivery, DeliveryFile
from pipeline.deliveries import listing
from pipeline.deliveries.batch import ASSETS, Batch
from pipeline.deliveries.columns import extension
from pipeline.deliveries.listing import MANIFEST
from pipeline.deliveries.sample import (
    MIME_OF,
    Delivered,
    Sample,
    Wrong,
    described,
    file_facts,
)
from pipeline.naming import asset_id

ROLES = ("image", "sidecar")


def batches(at: Delivered) -> list[Batch]:
    """The files of so many names each, in the order of names."""
    names = sorted(named(at.delivery).items())
    found = []
    for start in range(0, len(names), ASSETS):
        some = names[start : start + ASSETS]
        files = tuple(itertools.chain.from_iterable(files for _, files in some))
        paths = [file.path for file in files]
        found.append(Batch(files=files, facts={"paths": paths}, samples=len(some)))
    return found


def read(at: Delivered, batch: Batch) -> Iterator[Sample]:
    for name, files in itertools.groupby(batch.files, key=stem):
        yield sample(at, name, list(files))


def sample(at: Delivered, name: str, files: list[DeliveryFile]) -> Sample:
    pictures = images(files)
    # Of several images under one name none is read: they are a fault, whatever is in them.
    passed_over = pictures if len(pictures) > 1 else []
    parts = {
        extension(file.path): b"" if file in passed_over else listing.verified(at.store, file)
        for file in files
    }
    key = asset_id(name)

    def record() -> dict[str, Any]:
        told = sidecar(parts, f"{name}.json")
        if "json" not in parts and not at.delivery.every_asset:
            fix = f"write {name}.json, or state what all have in common under every_asset"
            raise Wrong("no_record", f"{name} has no record; {fix}")
        if len(pictures) != 1:
            code = "several_images" if pictures else "no_image"
            raise Wrong(code, f"{len(pictures)} images are called {name}; send exactly 1")
        image = parts[extension(pictures[0].path)]
        found = description.record(image, [parts["xmp"]] if "xmp" in parts else [])
        mine: dict[str, Any] = {"schema": "asset/1.0", "provider": at.delivery.provider, "asset_id": key}
        mine |= stated.standing(at.delivery.sequence, at.delivery.every_asset)
        mine |= {} if key == name else {"extra": {"provider_id": name}}
        whole = stated.filled(stated.filled(told, found), mine)
        if "description" not in {**at.delivery.every_asset, **whole}:
            fix = f"write it as description in {name}.json, in {name}.xmp, or into the image"
            raise Wrong("invalid_record", f"description: {pictures[0].path} has no caption; {fix}")
        claimed = whole.get("file", {})
        if not isinstance(claimed, dict):
            return whole  # the contract says what is wrong with it
        return {**whole, "file": file_facts(image, pictures[0].sha256, claimed)}

    known = pictures[0].sha256 if len(pictures) == 1 else ""  # compared when it was read
    return described(key, record, parts, delivery=at.delivery, name=f"{name}.json", sha256=known)


def sidecar(parts: Mapping[str, bytes], name: str) -> dict[str, Any]:
    if "json" not in parts:
        return {}
    found = json.loads(parts["json"], file=name)
    if not isinstance(found, dict):
        raise Wrong("invalid_record", f"{name}: got {str(found)[:60]!a}; write a record, an object")
    return found


def stem(file: DeliveryFile) -> str:
    """The name that an image and its sidecars share; ``a.jpg.xmp``, as some editors write it, is of ``a``."""
    path = PurePosixPath(PurePosixPath(nfc.normal(file.path)).stem)
    return path.stem if file.role == "sidecar" and extension(path.name) in MIME_OF else path.name


def named(delivery: Delivery) -> dict[str, list[DeliveryFile]]:
    """The files of each name. Raises :class:`Refused` with rule ``duplicate``, ``case`` or ``lone``."""
    found: dict[str, list[DeliveryFile]] = {}
    files = [file for file in delivery.files if file.role in ROLES]
    for file in sorted(files, key=lambda file: file.path):
        found.setdefault(stem(file), []).append(file)
    pictured = {name.casefold(): image for name, mine in found.items() for image in images(mine)}
    given: dict[str, str] = {}
    for name, mine in found.items():
        check_together(name, mine)
        if not images(mine):
            check_lone(name, mine, pictured.get(name.casefold()))
        if (other := given.setdefault(asset_id(name), name)) != name:
            told = f"{name!a} and {other!a} have one asset id, {asset_id(name)}; rename one of them"
            raise Refused(MANIFEST, mine[0].path, "duplicate", told)
    return found


def images(files: Sequence[DeliveryFile]) -> list[DeliveryFile]:
    return [file for file in files if file.role == "image"]


def check_together(name: str, files: Sequence[DeliveryFile]) -> None:
    """The files of one name lie in one folder, and no two have one extension."""
    folders = sorted({str(PurePosixPath(file.path).parent) for file in files})
    if len(folders) > 1:
        told = f"{name} lies in {folders[0]} and in {folders[1]}; keep an image beside its record, once"
        raise Refused(MANIFEST, files[0].path, "duplicate", told)
    kinds = [extension(file.path) for file in files]
    if len(set(kinds)) < len(kinds):
        told = f"{name} comes twice with one extension, but for its case; keep one"
        raise Refused(MANIFEST, files[0].path, "duplicate", told)


def check_lone(name: str, files: Sequence[DeliveryFile], image: DeliveryFile | None) -> None:
    """Sidecars without an image: a record may come alone, and is a fault then; what else is there may not."""
    if image is not None:
        told = f"{image.path} has its name in another case, and no image has it; name it as its image is"
        raise Refused(MANIFEST, files[0].path, "case", told)
    if "xmp" in [extension(file.path) for file in files]:
        told = f"what it says belongs to no image, as none is named {name}; name it as its image is"
        raise Refused(MANIFEST, files[0].path, "lone", told)
