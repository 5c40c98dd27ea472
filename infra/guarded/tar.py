"""Read tars that we did not write: plain files in plain USTAR or PAX, one after the other, within budgets.

Everything else is refused, and one refused member refuses the tar: a header that lies about one member may
lie about all. The standard reader is not used because it is built to be helpful: it expands sparse members
(2 KB to 300 MB), follows links, opens gzip behind a ``.tar`` name, takes the last of two equal names, and
stops without a word at a broken header, which makes a damaged shard look like a short one. Nothing is ever
extracted to disk.

Layout: POSIX.1-1988 (USTAR) header blocks and POSIX.1-2001 (PAX) extended headers of type ``x``.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NoReturn, Protocol

from infra.guarded.refused import Refused

BLOCK = 512
PIECE = 1024 * 1024
"""Read at a time."""
GZIP = b"\x1f\x8b"
MAX_PAX_BYTES = 64 * 1024
PAX_KEYS = frozenset({"path", "mtime", "atime", "ctime", "uid", "gid", "uname", "gname", "comment"})
"""All that a plain file needs. Refused: ``GNU.sparse.*``, ``linkpath``, ``hdrcharset``, vendors' keys, and
``size``, which no member under 8 GiB needs and which readers that ignore it would read past."""

KINDS = {
    b"1": "a hard link", b"2": "a symbolic link", b"3": "a character device", b"4": "a block device",
    b"5": "a folder", b"6": "a pipe", b"7": "a contiguous file", b"S": "a sparse file",
    b"g": "a global header", b"L": "a GNU long name", b"K": "a GNU long link",
}  # fmt: skip

KEY = re.compile(r"[A-Za-z0-9_-]{1,161}")
"""A sample's key: an asset id (up to 128) or ``provider_assetid`` (32 + 1 + 128). Readers split at a dot."""


class Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What a tar may hold. The defaults are the delivery contract's."""

    name: re.Pattern[str] = re.compile(rf"{KEY.pattern}\.[a-z0-9]{{1,8}}")
    extensions: frozenset[str] | None = frozenset({"jpg", "jpeg", "png", "webp", "json", "txt"})
    """None takes any: for an archive whose sha256 we pinned ourselves."""
    max_member_bytes: int = 96 * 1024 * 1024
    """A worker holds one, and has 1 GiB, of which 850 MiB are gone before. Agencies take up to 50 MB."""
    max_members: int = 40_000
    """Of 10,000 samples, which is img2dataset's own number, as many as each may have. So many records without
    an image, each of them at fault, are told of in 150 MiB."""
    max_total_bytes: int = 2 * 1024 * 1024 * 1024
    """Of the tar as it is read, headers included (for a compressed one: after decompression)."""


SHARD = Rules()


def whole(_name: str) -> int:
    return SHARD.max_total_bytes


def members(
    stream: Readable, *, file: str, rules: Rules = SHARD, wanted: Callable[[str], int] = whole
) -> Iterator[tuple[str, bytes]]:
    """(name, bytes) in the tar's order, reading forward only; one member is in memory at a time.

    ``wanted`` says how many bytes of a member to hand out, asked when its turn comes; the others are read
    over, a piece in memory at a time.

    Raises :class:`Refused` with rule ``gzip``, ``header``, ``format``, ``kind``, ``pax``, ``name``,
    ``extension``, ``duplicate``, ``member_size``, ``count``, ``total_size``, ``truncated`` or ``trailing``.
    What came before is then worthless too: a caller collects, or reads twice, before it believes a tar.
    """
    return _Reader(stream, file, rules, wanted).members()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Header:
    name: str
    size: int
    kind: bytes


@dataclass(slots=True)
class _Reader:
    stream: Readable
    file: str
    rules: Rules
    wanted: Callable[[str], int]
    total_bytes: int = 0
    seen: set[str] = field(default_factory=set)

    def members(self) -> Iterator[tuple[str, bytes]]:
        while (header := self._header()) is not None:
            pax = {}
            if header.kind == b"x":
                pax = self._pax(header)
                header = self._described()
            name = pax.get("path", header.name)
            self._admit(name, header)
            yield name, self._content(name, header.size, self.wanted(name))
        self._only_zeros()

    def refuse(self, member: str, rule: str, detail: str) -> NoReturn:
        # Escaped: a name may hold control characters or bytes that no terminal can print.
        raise Refused(self.file, ascii(member[:200])[1:-1], rule, detail)

    def _read(self, num_bytes: int, member: str, kept: int = BLOCK) -> bytes:
        """Exactly so many bytes, of which the first ``kept`` are returned. The total is checked before they
        are asked for.
        """
        self.total_bytes += num_bytes
        if self.total_bytes > self.rules.max_total_bytes:
            self.refuse(member, "total_size", f"the tar is over {self.rules.max_total_bytes} bytes; split it")
        found, missing = io.BytesIO(), num_bytes
        while missing and (part := self.stream.read(min(missing, PIECE))):
            found.write(part[: max(0, kept - (num_bytes - missing))])
            missing -= len(part)
        if missing:
            at = self.total_bytes - missing
            self.refuse(
                member, "truncated", f"the file ends at byte {at}, {missing} too early; send it again"
            )
        return found.getvalue()  # of its own bytes: no second copy of a large member is made

    def _content(self, member: str, size: int, kept: int) -> bytes:
        content = self._read(size, member, kept)
        self._read(-size % BLOCK, member)
        return content

    def _header(self) -> _Header | None:
        """The next header; None at the first of the two zero blocks that end a tar."""
        block = self._read(BLOCK, "")
        if self.total_bytes == BLOCK and block.startswith(GZIP):
            self.refuse("", "gzip", "it is compressed; send a plain tar")
        if not any(block):
            if any(self._read(BLOCK, "")):
                self.refuse("", "header", "a single zero block stands between members")
            return None
        self._check(block)
        name, prefix = _text(block[0:100]), _text(block[345:500])
        return _Header(
            name=f"{prefix}/{name}" if prefix else name,
            size=self._octal(block[124:136], name),
            kind=block[156:157].replace(b"\0", b"0"),
        )

    def _check(self, block: bytes) -> None:
        at = self.total_bytes - BLOCK
        unsigned = sum(block) - sum(block[148:156]) + 8 * ord(" ")
        if unsigned != self._octal(block[148:156], f"byte {at}"):
            self.refuse("", "header", f"the header at byte {at} fails its checksum; the tar is damaged")
        if block[257:263] != b"ustar\0":
            fix = "write it with --format=ustar or --format=pax"
            self.refuse(_text(block[0:100]), "format", f"magic {block[257:265]!r} is not POSIX; {fix}")

    def _octal(self, digits: bytes, member: str) -> int:
        text = digits.strip(b" \0")
        if not re.fullmatch(rb"[0-7]*", text):
            self.refuse(member, "header", f"{digits!r} is not an octal number")
        return int(text or b"0", 8)

    def _pax(self, header: _Header) -> dict[str, str]:
        """The records of an extended header: ``LENGTH KEY=VALUE`` and a line feed each."""
        if header.size > MAX_PAX_BYTES:
            self.refuse(header.name, "pax", f"{header.size} bytes of attributes, at most {MAX_PAX_BYTES}")
        raw, found = self._content(header.name, header.size, header.size), {}
        while raw:
            match = re.match(rb"([1-9][0-9]{0,5}) ([^=\n]{1,256})=", raw)
            length = int(match[1]) if match else 0
            if not match or raw[length - 1 : length] != b"\n":
                self.refuse(header.name, "pax", f"{raw[:40]!r} is not an attribute record")
            key = _text(match[2])
            if key not in PAX_KEYS or key in found:
                self.refuse(
                    header.name, "pax", f"attribute {key!r} is not for plain files, or is given twice"
                )
            found[key] = _text(raw[match.end() : length - 1])
            raw = raw[length:]
        return found

    def _described(self) -> _Header:
        header = self._header()
        if header is None or header.kind == b"x":
            self.refuse("", "pax", "an extended header describes no member")
        return header

    def _admit(self, name: str, header: _Header) -> None:
        rules, kind = self.rules, header.kind
        if kind != b"0":
            self.refuse(name, "kind", f"it is {KINDS.get(kind, repr(kind))}; only plain files are read")
        if not rules.name.fullmatch(name):
            self.refuse(name, "name", f"names match {rules.name.pattern}")
        if rules.extensions is not None and name.rpartition(".")[2] not in rules.extensions:
            self.refuse(name, "extension", f"only {', '.join(sorted(rules.extensions))} are read")
        if name in self.seen:
            self.refuse(name, "duplicate", "the name is given twice; keep one")
        if len(self.seen) == rules.max_members:
            self.refuse(name, "count", f"more than {rules.max_members} members; split the tar")
        if header.size > rules.max_member_bytes:
            self.refuse(name, "member_size", f"{header.size} bytes, at most {rules.max_member_bytes}")
        self.seen.add(name)

    def _only_zeros(self) -> None:
        """Writers pad to a record (10,240 bytes); what follows the end must not hide a second tar."""
        while padding := self.stream.read(1 << 16):
            self.total_bytes += len(padding)
            if self.total_bytes > self.rules.max_total_bytes or any(padding):
                self.refuse("", "trailing", f"bytes follow the end of the tar, before {self.total_bytes}")


def _text(raw: bytes) -> str:
    """Up to the first NUL. Bytes that are not UTF-8 become lone surrogates, which no name rule admits."""
    return raw.split(b"\0", 1)[0].decode("utf-8", "surrogateescape")
