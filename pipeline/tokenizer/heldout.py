"""Pictures to measure an image tokenizer on: what a corpus holds out, or the files of a folder."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pyarrow.compute as pc

from infra.corpus import Corpus, Version
from infra.telemetry import say
from pipeline import encoding, refs, rows, schema
from pipeline.encoding import Square
from pipeline.split import VALIDATION
from pipeline.step import IMAGES, ROWS
from pipeline.tokenizer.reconstructing import Picture
from tokenizer_service.images import Undecodable
from tokenizer_service.vq import Preprocessing

NO_GROUP = "(none)"
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")


def squares(side: int, preprocessing: Preprocessing) -> Square:
    return partial(encoding.square, side=side, preprocessing=preprocessing)


def of_corpus(corpus: Corpus, version: Version, square: Square) -> Iterator[Picture]:
    """The validation split, a shard in memory at a time. Categories are the agency's; else the first keyword
    is one.
    """
    tars = corpus.artifact(version, "images").shards
    for slot, shard in sorted(corpus.artifact(version, "split").shards.items()):
        kept = rows.kept(refs.of(corpus.store, shard, ROWS))
        held_out = kept.filter(pc.equal(kept[schema.SPLIT.name], VALIDATION))
        if not held_out.num_rows:
            continue
        table = rows.with_images(held_out, refs.of(corpus.store, tars[slot], IMAGES))
        for row in table.select([column.name for column in READ]).to_pylist():
            yield Picture(
                name=row[schema.UID.name],
                groups=tuple(row[schema.CATEGORIES.name] or row[schema.KEYWORDS.name][:1] or [NO_GROUP]),
                may_be_shown=row[schema.MAY_BE_SHOWN.name],
                pixels=square(row[schema.IMAGE.name]),
            )


READ = (schema.UID, schema.CATEGORIES, schema.KEYWORDS, schema.MAY_BE_SHOWN, schema.IMAGE)


def of_folder(folder: Path, square: Square) -> Iterator[Picture]:
    """Every image below the folder, in the order of their names; the first folder within is a category.

    What is damaged or too small is left out, and said so.
    """
    if not folder.is_dir():
        raise ValueError(f"--image {folder} is no folder; give one that holds JPEG, PNG or WebP files")
    for path in sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES):
        name = path.relative_to(folder)
        try:
            pixels = square(path.read_bytes())
        except (Undecodable, ValueError) as error:
            say(f"left out: {name}: {error}")
            continue
        group = name.parts[0] if len(name.parts) > 1 else NO_GROUP
        yield Picture(name=name.as_posix(), groups=(group,), may_be_shown=True, pixels=pixels)
