"""The tar reader takes plain files and nothing else; hostile tars are made here, never shipped."""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.guarded import tar
from infra.guarded.refused import Refused
from tests.hostile.made import packed

BLOCK = 512
extensions = st.sampled_from(["jpg", "jpeg", "png", "webp", "json", "txt"])
keys = st.text("abcXYZ019_-", min_size=1, max_size=161)
contents = st.dictionaries(
    st.builds("{}.{}".format, keys, extensions), st.binary(max_size=1200), min_size=1, max_size=5
)


def member(name: str, content: bytes = b"", **attributes: object) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for attribute, value in attributes.items():
        setattr(info, attribute, value)
    return info, content


def read(raw: bytes, rules: tar.Rules = tar.SHARD) -> list[tuple[str, bytes]]:
    return list(tar.members(io.BytesIO(raw), file="a.tar", rules=rules))


def refusal(raw: bytes, **rules: int) -> str:
    with pytest.raises(Refused) as caught:
        read(raw, tar.Rules(**rules))
    assert caught.value.file == "a.tar"
    return caught.value.rule


def resealed(block: bytes) -> bytes:
    """The header with a checksum that fits."""
    total = sum(block[:148]) + sum(block[156:512]) + 8 * 32
    return block[:148] + b"%06o\0 " % total + block[156:]


GOOD = packed(member("a.jpg", b"x" * 700), member("a.json", b"{}"))


@given(contents)
def test_what_a_posix_writer_packs_comes_back_in_its_order(files: dict[str, bytes]) -> None:
    # Names over 100 characters become PAX headers, which USTAR readers such as ours must follow.
    raw = packed(*(member(name, content, mtime=1.5) for name, content in files.items()))
    assert read(raw) == list(files.items())


@given(contents, st.integers(0, 1300))
def test_no_more_of_a_member_comes_out_than_is_wanted_and_all_of_it_is_read_over(
    files: dict[str, bytes], num_bytes: int
) -> None:
    raw = packed(*(member(name, content) for name, content in files.items()))
    found = tar.members(io.BytesIO(raw), file="a.tar", wanted=lambda _: num_bytes)
    assert list(found) == [(name, content[:num_bytes]) for name, content in files.items()]


def test_ustar_and_pax_and_an_empty_tar_are_read() -> None:
    for form in (tarfile.USTAR_FORMAT, tarfile.PAX_FORMAT):
        assert read(packed(member("k.json", b"{}"), form=form)) == [("k.json", b"{}")]
        assert read(packed(form=form)) == []


@given(st.integers(0, 7 * BLOCK - 1))
def test_a_tar_that_is_cut_anywhere_before_its_end_is_refused(length: int) -> None:
    # Header, 700 bytes in two blocks, header, 2 bytes in one block, two zero blocks: seven blocks.
    assert refusal(GOOD[:length]) == "truncated"


@given(st.integers(0, BLOCK - 1).filter(lambda at: not 148 <= at < 156), st.integers(1, 255))
def test_a_header_with_one_byte_changed_is_refused(at: int, change: int) -> None:
    damaged = bytearray(GOOD)
    damaged[at] ^= change
    assert refusal(bytes(damaged)) == "header"


@given(st.binary(max_size=3 * BLOCK))
def test_any_bytes_are_read_or_refused_and_nothing_else_is_raised(raw: bytes) -> None:
    with contextlib.suppress(Refused):
        read(raw)


@pytest.mark.parametrize(
    "kind",
    [
        tarfile.LNKTYPE,
        tarfile.SYMTYPE,
        tarfile.CHRTYPE,
        tarfile.BLKTYPE,
        tarfile.DIRTYPE,
        tarfile.FIFOTYPE,
        tarfile.CONTTYPE,
    ],
)
def test_links_devices_folders_and_pipes_are_refused(kind: bytes) -> None:
    raw = packed(member("a.jpg", type=kind, linkname="/etc/passwd"))
    assert refusal(raw) == "kind"


@pytest.mark.parametrize("flag", [b"S", b"L", b"K", b"g", b"V", b"M", b"A"])
def test_every_vendors_header_is_refused_even_with_a_posix_magic(flag: bytes) -> None:
    block = GOOD[:156] + flag + GOOD[157:BLOCK]
    assert refusal(resealed(block) + GOOD[BLOCK:]) == "kind"


def test_a_sparse_member_is_refused_before_anything_is_expanded() -> None:
    pax = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": str(300 << 20)}
    assert refusal(packed(member("a.jpg", b"0\n" + b"\0" * 510, pax_headers=pax))) == "pax"


@pytest.mark.parametrize("key", ["size", "linkpath", "hdrcharset", "SCHILY.xattr.user.a"])
def test_an_attribute_that_plain_files_do_not_need_is_refused(key: str) -> None:
    assert refusal(packed(member("a.jpg", b"x", pax_headers={key: "1"}))) == "pax"


def test_attributes_that_are_no_records_or_too_many_are_refused() -> None:
    good = packed(member("a.jpg", b"x", pax_headers={"comment": "y" * 20}))
    assert read(good) == [("a.jpg", b"x")]
    assert refusal(good.replace(b"comment=", b"comment:")) == "pax"
    assert refusal(good.replace(b"32 comment", b"31 comment")) == "pax"
    assert refusal(good.replace(b"32 comment", b"99 comment")) == "pax"
    assert refusal(packed(member("a.jpg", pax_headers={"comment": "y" * tar.MAX_PAX_BYTES}))) == "pax"


def test_attributes_without_a_member_are_refused() -> None:
    with_attributes = packed(member("a.jpg", pax_headers={"comment": "y"}))
    alone = with_attributes[: 2 * BLOCK] + bytes(2 * BLOCK)
    assert refusal(alone) == "pax"


def test_gzip_behind_the_name_of_a_tar_is_refused() -> None:
    assert refusal(gzip.compress(GOOD) + bytes(BLOCK)) == "gzip"
    assert refusal(gzip.compress(os.urandom(BLOCK))) == "gzip"


def test_a_tar_of_the_old_gnu_form_is_refused_with_the_fix() -> None:
    with pytest.raises(Refused, match="--format=pax") as caught:
        read(packed(member("a.jpg"), form=tarfile.GNU_FORMAT))
    assert caught.value.rule == "format"


@pytest.mark.parametrize(
    "name",
    [
        "../../etc/x.jpg",
        "/etc/x.jpg",
        "a/b.jpg",
        "acme.123.jpg",
        ".jpg",
        "a",
        "a.",
        "a b.jpg",
        "a\u202egpj.jpg",
        "é.jpg",
        "a.jpg\n",
        "a.JPG",
        "k" * 162 + ".jpg",
    ],
)
def test_a_name_that_is_not_one_key_and_one_extension_is_refused(name: str) -> None:
    assert refusal(packed(member(name))) == "name"


def test_a_name_in_bytes_that_are_no_text_is_refused_in_a_message_that_can_be_printed() -> None:
    raw = resealed(b"\xff\x1b.jpg".ljust(100, b"\0") + GOOD[100:BLOCK]) + GOOD[BLOCK:]
    with pytest.raises(Refused) as caught:
        read(raw)
    assert str(caught.value).isascii()
    assert str(caught.value).isprintable()


def test_a_prefix_counts_as_part_of_the_name() -> None:
    raw = resealed(GOOD[:345] + b"up".ljust(155, b"\0") + GOOD[500:BLOCK]) + GOOD[BLOCK:]
    assert refusal(raw) == "name"


@pytest.mark.parametrize(
    "extension", ["pkl", "pyd", "pth", "pt", "npy", "npz", "cbor", "mp", "tar", "gz", "py"]
)
def test_a_member_that_some_reader_would_run_or_unpickle_refuses_the_tar(extension: str) -> None:
    raw = packed(member("a.jpg", b"x"), member(f"a.{extension}", b"cos\nsystem\n"))
    assert refusal(raw) == "extension"


def test_a_name_given_twice_is_refused() -> None:
    assert refusal(packed(member("a.jpg", b"1"), member("a.jpg", b"2"))) == "duplicate"


def test_the_limits_admit_exactly_their_number() -> None:
    two = packed(member("a.jpg", b"x" * 10), member("b.jpg", b"y" * 11))
    assert len(read(two, tar.Rules(max_members=2, max_member_bytes=11, max_total_bytes=len(two)))) == 2
    assert refusal(two, max_members=1) == "count"
    assert refusal(two, max_member_bytes=10) == "member_size"
    assert refusal(two, max_total_bytes=4 * BLOCK) == "total_size"
    assert refusal(two, max_total_bytes=len(two) - 1) == "trailing"


def test_a_header_that_promises_more_than_the_file_holds_is_refused() -> None:
    block = resealed(GOOD[:124] + b"%011o\0" % (90 << 20) + GOOD[136:BLOCK])
    assert refusal(block + GOOD[BLOCK:]) == "truncated"


@pytest.mark.parametrize(
    "size", [b"\x80" + b"\0" * 10 + b"\x05", b"-0000000005\0", b"0000000009 \0", b"1 2".ljust(12)]
)
def test_a_size_that_is_not_octal_is_refused(size: bytes) -> None:
    assert refusal(resealed(GOOD[:124] + size + GOOD[136:BLOCK]) + GOOD[BLOCK:]) == "header"


def test_nothing_may_follow_the_end() -> None:
    assert refusal(GOOD + GOOD) == "trailing"
    assert refusal(GOOD + b"\0" * 100_000 + b"x") == "trailing"
    assert read(GOOD + b"\0" * 100_000) == read(GOOD)


def test_a_zero_block_between_members_does_not_hide_the_rest() -> None:
    first = packed(member("a.jpg"))[:BLOCK]
    assert refusal(first + bytes(BLOCK) + GOOD) == "header"
