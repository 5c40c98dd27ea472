"""Token shards as their readers take them.

The surprising rule: every row names the tokenizers that made it, and a reader says whose tokens it takes.
Ids of two tokenizers look alike; who mixed them would train on noise.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash
from numpy.typing import NDArray

from infra.artifact import Corrupt
from pipeline import refs, schema, tables

Ids = NDArray[np.integer]


class MixedTokens(ValueError):
    """Tokens that other tokenizers made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokenizers:
    """sha256 of the files of both."""

    text: str
    image: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """What packing needs of an asset."""

    revision: int
    licenses: tuple[str, ...]
    """That admit it."""
    contributor: str
    codes: Ids
    texts: tuple[Ids, ...]
    """The caption's forms, the description first."""
    kinds: tuple[str, ...]
    """What each of ``texts`` is."""


def read(files: Sequence[refs.Ref], made_by: Tokenizers) -> dict[str, Tokens]:
    """The tokens of every asset by uid; raises ``MixedTokens`` for those that ``made_by`` did not make."""
    found: dict[str, Tokens] = {}
    for ref in files:
        table = tables.read_ipc(ref)
        check(table, made_by, ref.store.where(ref.name))
        found.update(tokens_of(table))
    return found


def picked(ref: refs.Ref, uids: Collection[str], made_by: Tokenizers) -> list[tuple[str, Tokens]]:
    """The tokens of some assets of a shard, of which only these rows are read, and checked.

    KeyError for an asset that is not in it.
    """
    where, wanted = ref.store.where(ref.name), pa.array(sorted(uids), schema.UID.type)

    def look(path: Path) -> list[tuple[str, Tokens]]:
        table = sound(ref, path)
        check(table, made_by, where)
        places = pc.index_in(wanted, value_set=table[schema.UID.name])
        if places.null_count:
            raise KeyError(f"{wanted.filter(pc.is_null(places))[0]} is not in {where}")
        rows = table.take(places)
        found = list(tokens_of(rows))
        for (uid, tokens), told in zip(found, rows[schema.XXH3.name].to_pylist(), strict=True):
            if (xxh3 := digest(uid, tokens)) != told:
                raise Corrupt(
                    f"{where}: the row of {uid} has xxh3 {xxh3}, and says {told}; delete its folder"
                )
        return found

    return ref.looked_at(look)


def sound(ref: refs.Ref, path: Path) -> pa.Table:
    """A table in which no row points beyond its end."""
    inode = path.stat().st_ino
    try:
        table = tables.map_ipc(path)
        if _sound.get(ref) != inode:
            table.validate(full=True)
            _sound[ref] = inode
    except (pa.ArrowInvalid, OSError) as error:
        where = ref.store.where(ref.name)
        raise Corrupt(f"{where} is no sound Arrow file ({error}); delete its folder") from error
    return table


_sound: dict[refs.Ref, int] = {}
"""By inode, the file of each that this process has looked at: 10,000 documents name one, and a copy may come
anew."""


def digest(uid: str, tokens: Tokens) -> int:
    """Of all that is told of an asset, but whose its tokens are: that is checked by name."""
    lengths = [len(ids) for ids in (tokens.codes, *tokens.texts)]
    said = (uid, tokens.revision, tokens.licenses, tokens.contributor, tokens.kinds, lengths)
    found = xxhash.xxh3_64(repr(said).encode())
    for ids in (tokens.codes, *tokens.texts):
        found.update(np.ascontiguousarray(ids).data)
    return found.intdigest()


def check(table: pa.Table, made_by: Tokenizers, where: str) -> None:
    if missing := {schema.TEXT_TOKENIZER.name, schema.IMAGE_TOKENIZER.name} - set(table.column_names):
        raise MixedTokens(
            f"{where} does not say which tokenizers made it (no column {min(missing)}): an older release "
            "did; run `pardalis build` again"
        )
    for column, wanted in ((schema.TEXT_TOKENIZER, made_by.text), (schema.IMAGE_TOKENIZER, made_by.image)):
        for name in pc.unique(table[column.name]).to_pylist():
            if name != wanted:
                raise MixedTokens(
                    f"{where} holds tokens of {column.name} {name} beside those of {wanted}: a mixed cache; "
                    "remove the folder of this shard and run `pardalis build` again"
                )


def tokens_of(table: pa.Table) -> Iterator[tuple[str, Tokens]]:
    """Ids are views of the table: as Python's numbers they take five times as long."""
    texts = table[schema.TEXTS.name].combine_chunks()
    forms = texts.values
    kinds, starts = forms.field("kind").to_pylist(), texts.offsets.to_pylist()
    ids, codes = in_parts(forms.field("ids")), in_parts(table[schema.CODES.name].combine_chunks())
    facts = (schema.UID, schema.REVISION, schema.LICENSES, schema.CONTRIBUTOR)
    rows = zip(*(table[field.name].to_pylist() for field in facts), strict=True)
    for (uid, revision, licenses, contributor), codes_T, (start, stop) in zip(
        rows, codes, pairwise(starts), strict=True
    ):
        yield (
            uid,
            Tokens(
                revision=revision,
                licenses=tuple(licenses or ()),
                contributor=contributor,
                codes=codes_T,
                texts=tuple(ids[start:stop]),
                kinds=tuple(kinds[start:stop]),
            ),
        )


def in_parts(lists: pa.ListArray) -> list[Ids]:
    """Each list as a view of what all of them lie in."""
    flat = np.asarray(lists.values)
    return [flat[start:stop] for start, stop in pairwise(lists.offsets.to_pylist())]


def signed(table: pa.Table, made_by: Tokenizers) -> pa.Table:
    """The rows with the names of their tokenizers beside them, and what they are checked by."""
    checks = pa.array([digest(uid, tokens) for uid, tokens in tokens_of(table)], schema.XXH3.type)
    for column, name in ((schema.TEXT_TOKENIZER, made_by.text), (schema.IMAGE_TOKENIZER, made_by.image)):
        places = pa.array(np.zeros(table.num_rows, np.int8))
        table = table.append_column(column, pa.DictionaryArray.from_arrays(places, [name]))
    return table.append_column(schema.XXH3, checks)
