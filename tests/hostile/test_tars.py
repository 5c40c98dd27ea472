"""Tars that lie are refused whole at the door: file, rule and remedy are told, and nothing is kept."""

from __future__ import annotations

import gzip
import io
import pickle
import tarfile
import zipfile

import pytest

from .made import BLOCK, GOOD, PNG, Door, Parcel, member, packed, patched, resealed, tarred, with_good

pytestmark = pytest.mark.plan


class Runs:
    """A pickle that would tell us if anybody loaded it."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return exec, ("raise SystemExit('a pickle ran')",)


def zipped() -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        archive.writestr("x.png", PNG)
    return sink.getvalue()


def old_sparse() -> bytes:
    """A GNU sparse member: two kilobytes here that stand for 300 MB."""
    block = bytearray(packed(member("x.png", b"y"))[:BLOCK])
    block[156:157], block[257:265] = b"S", b"ustar\0" + b"00"
    block[386:398] = b"00000000000\0"
    block[483:495] = b"%011o\0" % (300 << 20)
    return resealed(bytes(block)) + bytes(BLOCK) + GOOD


def alone(name: str, content: bytes = b"x", **attributes: object) -> bytes:
    return with_good(member(name, content, **attributes))


SPARSE = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": str(300 << 20)}
PAX_X = packed(member("x.png", b"x", pax_headers={"comment": "y" * 20}))
PICKLE = pickle.dumps(Runs())

# name: (tar, rule, more words that the message holds: where, and what to do)
TARS = {
    "sparse_in_pax": (alone("x.png", b"0\n" + b"\0" * 510, pax_headers=SPARSE), "pax", "GNU.sparse"),
    "sparse_of_gnu": (old_sparse(), "kind", "only plain files"),
    "gnu_long_name": (with_good(member("n" * 150 + ".png"), form=tarfile.GNU_FORMAT), "format", "--format="),
    "gzip_named_tar": (gzip.compress(GOOD), "gzip", "send a plain tar"),
    "gzip_bomb_named_tar": (gzip.compress(bytes(20 << 20)), "gzip", "send a plain tar"),
    "gzip_member": (alone("x.gz", gzip.compress(bytes(1 << 20))), "extension", "x.gz"),
    "gzip_of_a_record": (alone("x.json.gz", gzip.compress(b"{}")), "name", "x.json.gz"),
    "tar_in_tar": (alone("x.tar", GOOD), "extension", "only"),
    "zip_named_tar": (zipped() + bytes(BLOCK), "header", "not an octal number"),
    "no_tar_at_all": (b"<html>404 not found</html>".ljust(2 * BLOCK), "header", "damaged"),
    "empty_file": (b"", "truncated", "send it again"),
    "traversal": (alone("../../x.png"), "name", "../../x.png"),
    "traversal_inside": (alone("a/../../x.png"), "name", "a/../../x.png"),
    "absolute": (alone("/etc/cron.d/x.png"), "name", "/etc/cron.d/x.png"),
    "backslashes": (alone("..\\..\\x.png"), "name", "names match"),
    "drive_letter": (alone("c:x.png"), "name", "names match"),
    "prefix_field_traversal": (patched(GOOD, 345, b"../.."), "name", "../../good.png"),
    "name_in_pax_traversal": (alone("x.png", pax_headers={"path": "../x.png"}), "name", "../x.png"),
    "hard_link": (alone("x.png", b"", type=tarfile.LNKTYPE, linkname="/etc/passwd"), "kind", "hard link"),
    "symbolic_link": (alone("x.png", b"", type=tarfile.SYMTYPE, linkname="/etc/passwd"), "kind", "symbolic"),
    "character_device": (alone("x.png", b"", type=tarfile.CHRTYPE), "kind", "a character device"),
    "block_device": (alone("x.png", b"", type=tarfile.BLKTYPE), "kind", "a block device"),
    "pipe": (alone("x.png", b"", type=tarfile.FIFOTYPE), "kind", "a pipe"),
    "folder": (alone("x.png", b"", type=tarfile.DIRTYPE), "kind", "a folder"),
    "global_attributes": (patched(GOOD, 156, b"g"), "kind", "a global header"),
    "duplicate_member": (alone("good.json", b"{}"), "duplicate", "keep one"),
    "key_in_two_places": (
        tarred({"a.png": PNG, "b.png": PNG, "a.json": b"{}"}),
        "scattered",
        "sort the tar by name",
    ),
    "size_lie_in_pax": (alone("x.png", pax_headers={"size": "9999999"}), "pax", "'size'"),
    "pax_record_length_lie": (PAX_X.replace(b"32 comment", b"99 comment"), "pax", "not an attribute record"),
    "pax_of_a_megabyte": (alone("x.png", pax_headers={"comment": "y" * (1 << 20)}), "pax", "at most 65536"),
    "pax_charset": (alone("x.png", pax_headers={"hdrcharset": "BINARY"}), "pax", "hdrcharset"),
    "pax_of_nothing": (PAX_X[: 2 * BLOCK] + bytes(2 * BLOCK), "pax", "describes no member"),
    "checksum_wrong": (GOOD[:100] + b"7" + GOOD[101:], "header", "the tar is damaged"),
    "cut_in_a_member": (GOOD[:1500], "truncated", "send it again"),
    "garbage_after_the_end": (GOOD + b"#!/bin/sh\n", "trailing", "follow the end"),
    "second_tar_after_the_end": (GOOD + GOOD, "trailing", "follow the end"),
    "claims_8_gib": (patched(GOOD, 124, b"%011o\0" % (8**11 - 1)), "member_size", "at most 100663296"),
    "claims_90_mb": (patched(GOOD, 124, b"%011o\0" % (90 << 20)), "truncated", "too early"),
    "size_in_base_256": (patched(GOOD, 124, b"\x80" + bytes(10) + b"\x05"), "header", "octal"),
    "negative_size": (patched(GOOD, 124, b"-0000000001\0"), "header", "octal"),
    "pickled_member": (alone("x.pkl", PICKLE), "extension", "x.pkl"),
    "pickled_weights": (alone("x.pth", PICKLE), "extension", "x.pth"),
    "pickled_array": (alone("x.npy", b"\x93NUMPY" + PICKLE), "extension", "x.npy"),
    "extension_module": (alone("x.pyd", b"MZ"), "extension", "x.pyd"),
    "script": (alone("x.py", b"raise SystemExit"), "extension", "x.py"),
    "html_member": (alone("x.html", b"<script>1</script>"), "extension", "x.html"),
    "svg_member": (alone("x.svg", b"<svg/>"), "extension", "x.svg"),
    "gif_member": (alone("x.gif", b"GIF89a"), "extension", "x.gif"),
    "tiff_member": (alone("x.tif", b"II*\0"), "extension", "x.tif"),
    "bidi_name": (alone("x\u202egnp.png"), "name", "\\u202e"),
    "escape_codes_in_a_name": (alone("x\x1b[2J.png"), "name", "\\x1b[2J"),
    "name_of_raw_bytes": (patched(GOOD, 0, b"\xff\xfe.png"), "name", "\\udcff"),
    "key_with_a_dot": (alone("acme.7.png"), "name", "acme.7.png"),
    "key_of_300_letters": (alone("k" * 300 + ".png"), "name", "names match"),
    "no_key": (alone(".png"), "name", "names match"),
    "upper_case_extension": (alone("x.PNG"), "name", "x.PNG"),
}  # fmt: skip
TARS["cut_before_its_end"] = (GOOD[: len(GOOD.rstrip(b"\0")) // BLOCK * BLOCK + BLOCK], "truncated", "again")
TARS["zero_block_between"] = (bytes(BLOCK) + GOOD, "header", "zero block")


@pytest.mark.parametrize("name", TARS)
def test_a_tar_that_lies_is_refused_whole(name: str, door: Door) -> None:
    raw, rule, words = TARS[name]
    Parcel(door.root / "delivery").good(raw)
    code, told = door.ingest(door.root / "delivery")
    assert code == 2, told
    assert f"refused by rule {rule}: " in told
    assert "delivery/shards/acme-000000.tar" in told
    assert words in told
    assert door.corpus.numbers() == []


def test_a_plain_tar_of_the_same_make_is_taken(door: Door) -> None:
    Parcel(door.root / "delivery").good()
    code, told = door.ingest(door.root / "delivery")
    assert code == 0, told
    assert "1 in: kept 1" in told
