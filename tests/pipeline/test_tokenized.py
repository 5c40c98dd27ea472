"""Token shards: whose they are is written beside every token, and readers take no others."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from infra.artifact import Corrupt, Made, publish_shard
from infra.storage import Store, forget, objects
from pipeline import refs, schema, tables, tokenized
from pipeline.tokenized import MixedTokens, Tokenizers

OURS = Tokenizers(text="b" * 64, image="c" * 64)


def table(uid: str, *, wide: bool = False) -> pa.Table:
    codes = schema.WIDE_CODES if wide else schema.CODES
    row = {
        "uid": uid,
        "revision": 2,
        "licenses": ["royalty-free"],
        "contributor": "c1",
        "codes": [7, 70_000 if wide else 9],
        "texts": [{"kind": "description", "origin": "licensed", "ids": [5, 6]}],
    }
    kind = pa.schema([schema.UID, schema.REVISION, schema.LICENSES, schema.CONTRIBUTOR, codes, schema.TEXTS])
    return pa.Table.from_pylist([row], kind)


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


def test_some_rows_are_picked_without_the_others_and_each_is_checked(tmp_path: Path) -> None:
    store = Store.at(tmp_path)
    rows = tokenized.signed(pa.concat_tables([table(f"acme:{number}") for number in range(9)]), OURS)
    ref = shard(store, "nine", rows)
    found = dict(tokenized.picked(ref, {"acme:7", "acme:2"}, OURS))
    assert sorted(found) == ["acme:2", "acme:7"]
    whole = tokenized.read([ref], OURS)
    for uid, tokens in found.items():
        assert tokenized.digest(uid, tokens) == tokenized.digest(uid, whole[uid])
    with pytest.raises(KeyError, match=r"acme:9 is not in .*nine"):
        tokenized.picked(ref, {"acme:9"}, OURS)
    with pytest.raises(MixedTokens, match="image_tokenizer cccc"):
        list(tokenized.picked(ref, {"acme:2"}, Tokenizers(text="b" * 64, image="e" * 64)))


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("revision", pa.array([2, 3], pa.int32())),
        ("licenses", pa.array([["royalty-free"], ["other"]], schema.LICENSES.type)),
        ("contributor", pa.array(["c1", "c2"])),
        ("codes", pa.array([[7, 9], [7, 8]], schema.CODES.type)),
        ("texts", pa.array([[], []], schema.TEXTS.type)),
    ],
)
def test_a_row_that_is_not_as_it_was_written_is_refused_by_who_picks_it(
    tmp_path: Path, column: str, value: pa.Array
) -> None:
    rows = tokenized.signed(pa.concat_tables([table("acme:1"), table("acme:2")]), OURS)
    at = rows.schema.get_field_index(column)
    ref = shard(Store.at(tmp_path), "spoilt", rows.set_column(at, rows.schema.field(at), value))
    with pytest.raises(Corrupt, match=r"spoilt.*row of acme:2.*delete its folder"):
        tokenized.picked(ref, {"acme:2"}, OURS)


def test_a_file_that_was_cut_is_refused_before_a_row_is_looked_for(tmp_path: Path) -> None:
    store = Store.at(tmp_path)
    ref = shard(store, "cut", tokenized.signed(table("acme:1"), OURS))
    path = tmp_path / ref.name
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(Corrupt, match=r"cut/tokens\.arrow is no sound Arrow file.*delete its folder"):
        tokenized.picked(ref, {"acme:1"}, OURS)


def here() -> Path:
    """The only copy."""
    (found,) = (path for path in objects().iterdir() if not path.name.startswith("."))
    return found


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


CODES = np.array([7, 9], np.uint16).tobytes()
SPOILT: dict[str, Callable[[bytes], bytes]] = {
    "cut": lambda data: data[:-100],
    "a code": lambda data: flipped(data, data.rindex(CODES)),
    "a uid": lambda data: flipped(data, data.index(b"acme:2")),
    "whose it is": lambda data: flipped(data, data.index(OURS.text.encode())),
}


@pytest.mark.long
@pytest.mark.parametrize("spoil", SPOILT.values(), ids=SPOILT)
def test_a_copy_that_was_spoilt_is_fetched_again_and_only_an_object_that_was_is_told_of(
    s3: Store, spoil: Callable[[bytes], bytes]
) -> None:
    ref = shard(s3, "two", tokenized.signed(pa.concat_tables([table("acme:1"), table("acme:2")]), OURS))
    (whole,) = tokenized.picked(ref, {"acme:2"}, OURS)
    here().write_bytes(spoil(here().read_bytes()))
    (found,) = tokenized.picked(ref, {"acme:2"}, OURS)
    assert tokenized.digest(*found) == tokenized.digest(*whole)
    here().unlink()  # room was made for others
    (found,) = tokenized.picked(ref, {"acme:2"}, OURS)
    assert tokenized.digest(*found) == tokenized.digest(*whole)
    s3.write(ref.name, spoil(s3.read(ref.name)))
    forget()
    with pytest.raises((Corrupt, KeyError, MixedTokens), match=f"{s3.uri}/{ref.name}"):
        tokenized.picked(ref, {"acme:2"}, OURS)


@pytest.mark.long
def test_tokens_that_others_made_are_refused_without_fetching_them_again(s3: Store) -> None:
    ref = shard(s3, "theirs", tokenized.signed(table("acme:1"), Tokenizers(text="d" * 64, image="c" * 64)))
    with s3.local(ref.name) as copy:
        with pytest.raises(MixedTokens, match="text_tokenizer dddd"):
            tokenized.picked(ref, {"acme:1"}, OURS)
        assert os.fstat(copy.fileno()).st_nlink == 1
