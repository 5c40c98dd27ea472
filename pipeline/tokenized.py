"""Token shards as their readers take them.

The surprising rule: every row names the tokenizers that made it, and a reader says whose tokens it takes.
Ids of two tokenizers look alike; who mixed them would train on noise.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline import refs, schema, tables

Ids = NDArray[np.integer]
READ = (schema.UID, schema.REVISION, schema.CODES, schema.TEXTS)


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
    dtype = table.schema.field(schema.CODES.name).type.value_type.to_pandas_dtype()
    for row in table.select([column.name for column in READ]).to_pylist():
        texts = tuple(np.asarray(form["ids"], np.uint16) for form in row["texts"])
        kinds = tuple(form["kind"] for form in row["texts"])
        codes = np.asarray(row["codes"], dtype)
        yield row["uid"], Tokens(revision=row["revision"], codes=codes, texts=texts, kinds=kinds)


def signed(table: pa.Table, made_by: Tokenizers) -> pa.Table:
    """The rows with the names of their tokenizers beside them."""
    for column, name in ((schema.TEXT_TOKENIZER, made_by.text), (schema.IMAGE_TOKENIZER, made_by.image)):
        places = pa.array(np.zeros(table.num_rows, np.int8))
        table = table.append_column(column, pa.DictionaryArray.from_arrays(places, [name]))
    return table
