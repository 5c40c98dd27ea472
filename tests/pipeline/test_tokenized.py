"""Token shards: whose they are is written beside every token, and readers take no others."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from infra.artifact import Made, publish_shard
from infra.storage import Store
from pipeline import refs, schema, tables, tokenized
from pipeline.tokenized import MixedTokens, Tokenizers

OURS = Tokenizers(text="b" * 64, image="c" * 64)


def table(uid: str, *, wide: bool = False) -> pa.Table:
    codes = schema.WIDE_CODES if wide else schema.CODES
    row = {
        "uid": uid,
        "revision": 2,
        "codes": [7, 70_000 if wide else 9],
        "texts": [{"kind": "description", "origin": "licensed", "ids": [5, 6]}],
    }
    return pa.Table.from_pylist([row], pa.schema([schema.UID, schema.REVISION, codes, schema.TEXTS]))


def shard(store: Store, name: str, rows: pa.Table) -> refs.Ref:
    made = publish_shard(store, "tokenize", name, Made(files={"tokens.arrow": tables.to_ipc(rows)}))
    return refs.of(store, made, "tokens.arrow")


@pytest.mark.parametrize("wide", [False, True])
def test_tokens_come_back_with_the_codes_as_wide_as_they_are(tmp_path: Path, wide: bool) -> None:  # noqa: FBT001
    rows = tokenized.signed(table("acme:1", wide=wide), OURS)
    (found,) = tokenized.read([shard(Store.at(tmp_path), "one", rows)], OURS).values()
    assert found.codes.tolist() == [7, 70_000 if wide else 9]
    assert found.codes.itemsize == (4 if wide else 2)
    assert (found.revision, found.kinds, [list(text) for text in found.texts]) == (
        2,
        ("description",),
        [[5, 6]],
    )


@pytest.mark.parametrize(
    ("other", "told"),
    [
        (Tokenizers(text="d" * 64, image="c" * 64), "text_tokenizer d"),
        (Tokenizers(text="b" * 64, image="e" * 64), "image_tokenizer e"),
    ],
)
def test_a_mixed_cache_is_refused_with_both_names_and_what_to_do(
    tmp_path: Path, other: Tokenizers, told: str
) -> None:
    store = Store.at(tmp_path)
    files = [
        shard(store, "ours", tokenized.signed(table("acme:1"), OURS)),
        shard(store, "theirs", tokenized.signed(table("acme:2"), other)),
    ]
    with pytest.raises(
        MixedTokens, match=f"tokenize/theirs.*{told}.*beside those of (bbbb|cccc).*build` again"
    ):
        tokenized.read(files, OURS)


def test_a_mixed_shard_is_refused(tmp_path: Path) -> None:
    other = Tokenizers(text="b" * 64, image="e" * 64)
    both = pa.concat_tables(
        [tokenized.signed(table("acme:1"), OURS), tokenized.signed(table("acme:2"), other)]
    )
    ref = shard(Store.at(tmp_path), "both", both.unify_dictionaries())
    with pytest.raises(MixedTokens, match="image_tokenizer eeee"):
        tokenized.read([ref], OURS)


def test_tokens_that_do_not_say_whose_they_are_are_refused(tmp_path: Path) -> None:
    ref = shard(Store.at(tmp_path), "old", table("acme:1"))
    with pytest.raises(MixedTokens, match="no column image_tokenizer"):
        tokenized.read([ref], OURS)
