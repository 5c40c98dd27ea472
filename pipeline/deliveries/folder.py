"""Form (iii) of a delivery: images, each with its record beside it: ``any/NAME.jpg`` and ``any/NAME.json``.

NAME is the asset id. The surprising rule: folders mean nothing. A name is one asset wherever its files lie,
and one that is given in two folders is refused, since nobody could say which of them counts.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import PurePosixPath

from infra.guarded import tar
from infra.guarded.refused import Refused
from pipeline.contract import Delivery, DeliveryFile
from pipeline.deliveries import manifest
from pipeline.deliveries.batch import ASSETS, Batch
from pipeline.deliveries.manifest import MANIFEST
from pipeline.deliveries.sample import MIME_OF, Delivered, Sample, sample

ROLE = "files"
EXTENSIONS = {"image": tuple(MIME_OF), "sidecar": ("json",)}


def count(delivery: Delivery) -> int:
    """Names, with an image or a record or both."""
    return len(named(delivery))


def batches(delivery: Delivery) -> list[Batch]:
    """The files of so many names each, in the order of names."""
    names = sorted(named(delivery).items())
    found = []
    for start in range(0, len(names), ASSETS):
        files = tuple(itertools.chain.from_iterable(files for _, files in names[start : start + ASSETS]))
        found.append(Batch(files=files, facts={"paths": [file.path for file in files]}))
    return found


def read(at: Delivered, batch: Batch) -> Iterator[Sample]:
    for key, files in itertools.groupby(batch.files, key=lambda file: PurePosixPath(file.path).stem):
        parts = {extension(file): manifest.verified(at.store, file) for file in files}
        yield sample(key, parts, at.delivery)


def named(delivery: Delivery) -> dict[str, list[DeliveryFile]]:
    """The files of each name, sorted. Raises :class:`Refused` with rule ``name``, ``extension`` or
    ``duplicate``.
    """
    found: dict[str, list[DeliveryFile]] = {}
    files = [file for file in delivery.files if file.role in EXTENSIONS]
    for file in sorted(files, key=lambda file: file.path):
        check_name(file)
        found.setdefault(PurePosixPath(file.path).stem, []).append(file)
    for name, mine in found.items():
        folders = sorted({str(PurePosixPath(file.path).parent) for file in mine})
        if len(folders) > 1:
            told = f"{name} lies in {folders[0]} and in {folders[1]}; keep an image beside its record, once"
            raise Refused(MANIFEST, mine[0].path, "duplicate", told)
    return found


def check_name(file: DeliveryFile) -> None:
    if not tar.KEY.fullmatch(PurePosixPath(file.path).stem):
        told = f"the file is named by its asset id, which matches {tar.KEY.pattern}"
        raise Refused(MANIFEST, file.path, "name", told)
    if extension(file) not in EXTENSIONS[file.role]:
        told = f"a file of role {file.role!r} ends in {' or '.join(EXTENSIONS[file.role])}"
        raise Refused(MANIFEST, file.path, "extension", told)


def extension(file: DeliveryFile) -> str:
    return PurePosixPath(file.path).suffix.removeprefix(".")
