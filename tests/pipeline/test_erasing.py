"""Files without some assets are, byte for byte, files that were written without them."""

from __future__ import annotations

import io
import tarfile

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import archive, erasing, schema, tables

KEYS = st.text("abcXYZ019_-", min_size=1, max_size=150)


@given(st.lists(st.tuples(KEYS, st.binary(max_size=1500), st.booleans()), unique_by=lambda one: one[0]))
def test_a_tar_without_members_is_the_tar_that_was_written_without_them(
    found: list[tuple[str, bytes, bool]],
) -> None:
    samples = [(f"p_{key}", jpeg, {"key": key}, f"says {key}") for key, jpeg, _ in found]
    gone = {f"p_{key}" for key, _, goes in found if goes}
    left = [sample for sample in samples if sample[0] not in gone]
    assert erasing.members_dropped(archive.write(samples), gone) == archive.write(left)


def test_a_tar_with_a_link_is_no_tar_of_ours() -> None:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as tar:
        link = tarfile.TarInfo("p_a.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    with pytest.raises(ValueError, match=r"p_a\.jpg.*plain files alone"):
        erasing.members_dropped(sink.getvalue(), set())


COLUMNS = pa.schema([schema.UID, schema.REVISION, schema.KEYWORDS, schema.MODERATION, schema.STRUCTURE])


@given(st.lists(st.tuples(st.integers(0, 3), st.booleans()), max_size=40), st.integers(1, 7))
def test_a_table_without_rows_is_the_table_that_was_written_without_them(
    drawn: list[tuple[int, bool]], chunk: int
) -> None:
    rng = np.random.default_rng(len(drawn))
    rows = [
        {
            "uid": f"p:{number}",
            "revision": words,
            "keywords": ["word"] * words,
            "moderation": [{"name": "n", "score": None if words % 2 else 0.5}] * words,
            "structure": None if words == 3 else rng.bytes(9),
        }
        for number, (words, _) in enumerate(drawn)
    ]
    gone = {f"p:{number}" for number, (_, goes) in enumerate(drawn) if goes}
    left = [row for row in rows if row["uid"] not in gone]
    cut = [pa.Table.from_pylist(rows[at : at + chunk], COLUMNS) for at in range(0, len(rows), chunk)]
    whole = pa.concat_tables(cut) if cut else COLUMNS.empty_table()
    data = erasing.without("rows.parquet", tables.to_parquet(whole), gone)
    assert data == tables.to_parquet(pa.Table.from_pylist(left, COLUMNS))


def test_a_file_of_no_known_kind_is_not_passed_over() -> None:
    with pytest.raises(ValueError, match=r"part\.faiss has no rows that are known by their assets"):
        erasing.without("part.faiss", b"", {"p:1"})
