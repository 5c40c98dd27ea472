"""One interface to bytes, local or on S3: whole objects, written once, under names with slashes.

Two rules hold on both. :meth:`Store.write` is atomic: a reader sees the old object or the new one. And
:meth:`Store.create` succeeds for exactly one of many callers, which is all that versions and leases need
(a hard link locally, ``If-None-Match: *`` on S3).
"""

from __future__ import annotations

import base64
import contextlib
import functools
import hashlib
import os
import re
import secrets
import stat
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeVar, cast

import botocore.exceptions

from infra import copies, s3
from infra.copies import FULL, PARTIAL
from infra.redaction import masked


def cache_folder() -> Path:
    """``$XDG_CACHE_HOME/pardalis``, else ``~/.cache/pardalis``: everything in it can be made again."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pardalis"


class Missing(FileNotFoundError):
    """There is no object of that name."""


class NoRoom(OSError):
    """The disk is full, or what one may have of it."""


ABSENT = (FileNotFoundError, NotADirectoryError)
"""What the system says of a path of which some part is not there, or is a file where a folder should be."""
UNREACHABLE = (OSError, botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError)
"""What a store raises when it cannot be used now; a later try may succeed."""
BUCKET = re.compile("[A-Za-z0-9._-]+")
WRITER = "writer"
"""Metadata of an object that was created on S3: drawn anew for each creation, whatever its bytes."""
FOLLOWING = {
    "NextContinuationToken": "ContinuationToken",
    "NextKeyMarker": "KeyMarker",
    "NextVersionIdMarker": "VersionIdMarker",
}
"""What the end of a page is called, and what the question for the next one calls it."""
PART_BYTES = 8 << 20
"""Of an object that becomes a file: asked for at once, and in memory."""
SPOILT = 3
"""Times that an object is fetched whose bytes have another CRC32 than the store keeps."""
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Store(ABC):
    """A folder of objects. ``root`` is an absolute path, or ``bucket/prefix``."""

    root: str

    @staticmethod
    def at(uri: str | Path) -> Store:
        """``s3://bucket/prefix`` or a local path; a relative path is taken from the working directory.

        No message repeats an address that is refused for what it holds.
        """
        text = str(uri)
        scheme, mark, rest = text.partition("://")
        if not mark:
            return LocalStore(str(Path(text).expanduser().absolute()))
        if scheme != "s3":
            raise ValueError(f"{masked(text)!r} is neither a local path nor an s3:// address")
        bucket, _, prefix = rest.strip("/").partition("/")
        if not bucket:
            raise ValueError(f"{text!r} names no bucket; write s3://BUCKET/PREFIX")
        if masked(text) != text or not BUCKET.fullmatch(bucket):
            raise ValueError(
                "an s3:// address, not repeated here, has a name, a password or a query in it; write no more "
                "than s3://BUCKET/PREFIX, and set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile"
            )
        return S3Store(f"{bucket}/{prefix}" if prefix else bucket)

    @property
    @abstractmethod
    def uri(self) -> str: ...

    def where(self, name: str) -> str:
        """The object's full address, for messages."""
        return f"{self.uri}/{name}"

    def missing(self, name: str) -> Missing:
        """What to raise, and what to do about it."""
        kind, *rest = name.split("/")
        if kind != "shards" or len(rest) < 3:  # a delivery may have a folder of that name too
            return Missing(f"there is no {self.where(name)}; see that the address is right, or restore it")
        step, key = rest[:2]
        return Missing(
            f"{self.where(name)} is gone; restore it from a copy. What is no fitted model can be made again: "
            f"delete {self.where(f'shards/{step}/{key}')} and {self.where(f'artifacts/{step}')}, then run "
            "`pardalis ingest` and `pardalis build`"
        )

    @abstractmethod
    def read(self, name: str, *, at_most: int | None = None) -> bytes:
        """The whole object, or its first bytes; :class:`Missing` if there is none."""

    @abstractmethod
    def range(self, name: str, offset: int, size: int) -> bytes:
        """So many bytes from an offset, in one attempt; fewer where the object ends."""

    @abstractmethod
    def open(self, name: str) -> BinaryIO:
        """A seekable stream over the object, read in ranges."""

    @abstractmethod
    def write(self, name: str, data: bytes) -> None:
        """Put the object, whole or not at all."""

    @abstractmethod
    def create(self, name: str, data: bytes) -> bool:
        """Put the object if there is none; False if somebody was first."""

    @abstractmethod
    def exists(self, name: str) -> bool: ...

    @abstractmethod
    def size(self, name: str) -> int:
        """In bytes."""

    @abstractmethod
    def sizes(self, prefix: str = "") -> dict[str, int]:
        """In bytes, of every object whose name starts with ``prefix``; one question tells a thousand.
        Symbolic links, which may lead anywhere, are no objects, and neither is what is a folder on S3.
        """

    @abstractmethod
    def stamp(self, name: str) -> str:
        """What changes whenever the object does; :class:`Missing` if there is none."""

    @abstractmethod
    def stamps(self, prefix: str = "") -> dict[str, str]:
        """Of every object whose name starts with ``prefix``; none that :meth:`sizes` leaves out."""

    def names(self, prefix: str = "") -> list[str]:
        """Every object whose name starts with ``prefix``, sorted."""
        return sorted(self.sizes(prefix))

    @abstractmethod
    def delete(self, names: Sequence[str]) -> None:
        """Remove objects; one that is gone already is no error."""

    def erase(self, names: Sequence[str]) -> None:
        """Remove objects with all that is left of them: older versions, and copies in this machine's cache.

        Raises what the store says where it holds on to a version, as an object lock does.
        """
        self.delete(names)

    def hidden(self, prefix: str = "") -> dict[str, int]:  # noqa: ARG002  # of some stores nothing is hidden
        """What lies there and no listing shows, by a name for :meth:`erase_hidden`, with its bytes: what a
        killed write left behind; on S3 older versions, and deletions.
        """
        return {}

    def erase_hidden(self, names: Sequence[str]) -> None:
        """Remove what :meth:`hidden` found."""
        self.delete(names)

    @abstractmethod
    def local(self, name: str) -> BinaryIO:
        """An open file of this machine, to memory-map. Of S3 it is a copy in the cache folder, so the object
        must be immutable; the copy's name may go any time, when room is made for others.
        """

    def forget(self, name: str) -> bool:  # noqa: ARG002  # a local object has no copy
        """Drop this machine's copy, for the next reader to fetch it anew; False where there are none."""
        return False


class LocalStore(Store):
    __slots__ = ()

    @property
    def uri(self) -> str:
        return self.root

    def _path(self, name: str) -> Path:
        return Path(self.root, name)

    def read(self, name: str, *, at_most: int | None = None) -> bytes:
        with self.open(name) as file:
            size = os.fstat(file.fileno()).st_size
            # In one piece: a buffered read of all grows an array as it goes, which takes three times as long.
            data = os.read(file.fileno(), size if at_most is None else min(size, at_most))
            rest = file.read(-1 if at_most is None else at_most - len(data))
            return data + rest if rest else data

    def range(self, name: str, offset: int, size: int) -> bytes:
        with self.open(name) as file:
            return os.pread(file.fileno(), size, offset)

    def open(self, name: str) -> BinaryIO:
        try:
            # A pipe that nobody writes to would be waited for without O_NONBLOCK, and a device never ends.
            file = os.open(f"{self.root}/{name}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except ABSENT:
            raise self.missing(name) from None
        if not stat.S_ISREG(os.fstat(file).st_mode):
            os.close(file)
            raise ValueError(f"{ascii(self.where(name))[1:-1]} is no plain file; put one there")
        return os.fdopen(file, "rb")

    def write(self, name: str, data: bytes) -> None:
        with self._aside(name, data) as partial:
            partial.replace(self._path(name))

    def create(self, name: str, data: bytes) -> bool:
        with self._aside(name, data) as partial:
            try:
                self._path(name).hardlink_to(partial)
            except FileExistsError:
                return False
        return True

    @contextlib.contextmanager
    def _aside(self, name: str, data: bytes) -> Any:
        """The bytes in a file of their own beside the target, on disk before anybody can see them."""
        folder = self._path(name).parent
        # Not mkstemp, which lets nobody else read: the umask decides who may share a corpus.
        partial = folder / f"{PARTIAL}{secrets.token_hex(8)}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with partial.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            yield partial
        except OSError as error:
            if error.errno not in FULL:
                raise
            told = f"no room for {len(data)} bytes of {self.where(name)} ({error.strerror})"
            raise NoRoom(
                error.errno, f"{told}; free some there and run again: what was done is kept"
            ) from None
        finally:
            partial.unlink(missing_ok=True)

    def exists(self, name: str) -> bool:
        return self._path(name).is_file()

    def size(self, name: str) -> int:
        try:
            return self._path(name).stat().st_size
        except ABSENT:
            raise self.missing(name) from None

    def sizes(self, prefix: str = "") -> dict[str, int]:
        folder = self._path(prefix) if prefix.endswith("/") or not prefix else self._path(prefix).parent
        files = (Path(at, file) for at, _, inside in os.walk(folder) for file in inside)
        named = ((path.relative_to(self.root).as_posix(), path) for path in files)
        return {
            name: size_of(path)
            for name, path in named
            if name.startswith(prefix) and not path.name.startswith(PARTIAL) and not path.is_symlink()
        }

    def hidden(self, prefix: str = "") -> dict[str, int]:
        files = (Path(at, file) for at, _, inside in os.walk(self._path(prefix)) for file in inside)
        left = (path for path in files if path.name.startswith(PARTIAL))
        return {path.relative_to(self.root).as_posix(): size_of(path) for path in left}

    def stamp(self, name: str) -> str:
        try:
            return stamp_of(self._path(name))
        except ABSENT:
            raise self.missing(name) from None

    def stamps(self, prefix: str = "") -> dict[str, str]:
        found = {}
        for name in self.sizes(prefix):
            with contextlib.suppress(*ABSENT):  # gone since it was listed
                found[name] = stamp_of(self._path(name))
        return found

    def delete(self, names: Sequence[str]) -> None:
        for name in names:
            self._path(name).unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # the folder still holds something
                self._path(name).parent.rmdir()

    def local(self, name: str) -> BinaryIO:
        return self.open(name)


def stamp_of(path: Path) -> str:
    """A file that was replaced within a tick of the clock has another inode."""
    told = path.stat()
    return f"{told.st_size}-{told.st_mtime_ns}-{told.st_ino}"


def size_of(path: Path) -> int:
    """In bytes; 0 for what is gone since it was listed."""
    try:
        return path.lstat().st_size
    except ABSENT:
        return 0


class S3Store(Store):
    """Any S3 server: ``AWS_ENDPOINT_URL`` and the usual credentials are taken from the environment."""

    __slots__ = ()

    @property
    def uri(self) -> str:
        return f"s3://{self.root}"

    def _at(self, name: str) -> dict[str, str]:
        bucket, _, prefix = self.root.partition("/")
        return {"Bucket": bucket, "Key": f"{prefix}/{name}" if prefix else name}

    def read(self, name: str, *, at_most: int | None = None) -> bytes:
        def ask() -> bytes:
            with contextlib.closing(s3.client().get_object(**self._at(name))["Body"]) as body:
                return cast("bytes", body.read(at_most))

        return self._asked("read", name, ask)

    def range(self, name: str, offset: int, size: int) -> bytes:
        where = self._at(name)
        with self._named(name):
            return s3.ranged(where["Bucket"], where["Key"], offset, size)

    def open(self, name: str) -> BinaryIO:
        return cast("BinaryIO", s3.Stream(self._at(name), self.size(name)))

    def write(self, name: str, data: bytes) -> None:
        self._asked("write", name, lambda: s3.client().put_object(**self._at(name), Body=data))

    def create(self, name: str, data: bytes) -> bool:
        writer = {WRITER: secrets.token_hex(16)}
        put = functools.partial(s3.client().put_object, Body=data, IfNoneMatch="*", Metadata=writer)
        try:
            # 409: somebody is writing it now, which may be an attempt of ours whose answer was lost.
            s3.patiently("create", self.where(name), lambda: put(**self._at(name)), again=(409,))
        except botocore.exceptions.ClientError as error:
            if s3.status(error) != 412:
                raise
            # Somebody was first, and by the same token it may have been us.
            with contextlib.suppress(Missing):
                return bool(self._head("create", name)["Metadata"] == writer)
            return False
        return True

    def _head(self, operation: str, name: str, **more: str) -> Any:
        return self._asked(operation, name, lambda: s3.client().head_object(**self._at(name), **more))

    def _asked(self, operation: str, name: str, ask: Callable[[], T]) -> T:
        with self._named(name):
            return s3.patiently(operation, self.where(name), ask)

    def exists(self, name: str) -> bool:
        try:
            self.size(name)
        except Missing:
            return False
        return True

    def size(self, name: str) -> int:
        return int(self._head("size", name)["ContentLength"])

    def sizes(self, prefix: str = "") -> dict[str, int]:
        return {name: item["Size"] for name, item in self._listed(prefix)}

    def stamp(self, name: str) -> str:
        return str(self._head("stamp", name)["ETag"])

    def stamps(self, prefix: str = "") -> dict[str, str]:
        return {name: item["ETag"] for name, item in self._listed(prefix)}

    def _listed(self, prefix: str) -> Iterator[tuple[str, Any]]:
        """(name, what S3 says of the object)."""
        skip = len(self._at("")["Key"])
        pages = self._pages("list", prefix, s3.client().list_objects_v2)
        for item in (item for page in pages for item in page.get("Contents", ())):
            # Consoles make a folder by putting an empty object whose name ends in a slash.
            if item["Size"] or item["Key"][-1] != "/":
                yield item["Key"][skip:], item

    def _pages(self, operation: str, prefix: str, ask: Callable[..., Any]) -> Iterator[Any]:
        """Not by botocore's paginator, which cannot go on after a page that failed."""
        where = self._at(prefix)
        ask = functools.partial(ask, Bucket=where["Bucket"], Prefix=where["Key"])
        following: dict[str, str] = {}
        while True:
            page = s3.patiently(operation, self.where(prefix), functools.partial(ask, **following))
            yield page
            following = {to: page[told] for told, to in FOLLOWING.items() if told in page}
            if not page.get("IsTruncated") or not following:
                return

    def delete(self, names: Sequence[str]) -> None:
        for name in names:
            delete = functools.partial(s3.client().delete_object, **self._at(name))
            s3.patiently("delete", self.where(name), delete)

    def erase(self, names: Sequence[str]) -> None:
        for name in names:
            where = self._at(name)
            if versions := list(self._versions(name)):
                for version in versions:
                    delete = functools.partial(s3.client().delete_object, **where, VersionId=version)
                    s3.patiently("erase", self.where(name), delete)
            else:  # a server that knows no versions lists none; one that does would note a deletion
                self.delete([name])
            self.forget(name)

    def _versions(self, name: str) -> Iterator[str]:
        """Of the object, its deletions among them."""
        where = self._at(name)
        for page in self._pages("erase", name, s3.client().list_object_versions):
            for item in (*page.get("Versions", ()), *page.get("DeleteMarkers", ())):
                if item["Key"] == where["Key"]:
                    yield item["VersionId"]

    def hidden(self, prefix: str = "") -> dict[str, int]:
        found, markers = dict[str, int](), list[str]()
        for page in self._pages("hidden", prefix, s3.client().list_object_versions):
            for item in page.get("Versions", ()):
                if not item["IsLatest"]:
                    found[f"{item['VersionId']} {item['Key']}"] = item["Size"]
            markers += [f"{item['VersionId']} {item['Key']}" for item in page.get("DeleteMarkers", ())]
        # Last: without its marker an older version would be the newest again.
        return found | dict.fromkeys(markers, 0)

    def erase_hidden(self, names: Sequence[str]) -> None:
        bucket = self._at("")["Bucket"]
        for name in names:
            version, _, key = name.partition(" ")
            delete = functools.partial(s3.client().delete_object, Bucket=bucket, Key=key, VersionId=version)
            s3.patiently("erase", f"s3://{bucket}/{key}", delete)

    def _copy(self, name: str) -> Path:
        return objects() / hashlib.sha256(self.where(name).encode()).hexdigest()

    def forget(self, name: str) -> bool:
        self._copy(name).unlink(missing_ok=True)
        return True

    def local(self, name: str) -> BinaryIO:
        path = self._copy(name)
        if found := copies.used(path):
            return found
        with copies.turn(path.parent, path.name) as goes_on:
            return copies.used(path) or self._fetched(name, path, goes_on)

    def _fetched(self, name: str, path: Path, goes_on: Callable[[], None]) -> BinaryIO:
        told = self._head("read", name, ChecksumMode="ENABLED")
        size = int(told["ContentLength"])
        try:
            copies.make_room(path.parent, size)
            with copies.placed(path) as file:
                self._fill(file, name, size, told.get("ChecksumCRC32", ""), goes_on)
                os.fsync(file.fileno())
                return copies.open_path(file).open("rb")
        except OSError as error:
            if error.errno not in FULL:
                raise
            full = f"{self.where(name)} has {size} bytes, and {path.parent} no room for its copy"
            fix = "free some there, or set XDG_CACHE_HOME to a folder of a larger disk"
            raise NoRoom(error.errno, f"{full}; {fix}") from None

    def _fill(self, file: BinaryIO, name: str, size: int, crc32: str, goes_on: Callable[[], None]) -> None:
        """Part by part, each as patiently as a whole one is read; all of them compared with the CRC32 that
        the server keeps, where it is one of the whole.
        """
        for _ in range(SPOILT):
            file.seek(0)
            found = 0
            for offset in range(0, size, PART_BYTES):
                data = self._part(name, offset, min(PART_BYTES, size - offset), goes_on)
                found = zlib.crc32(data, found)
                file.write(data)
            if not crc32 or "-" in crc32 or base64.b64decode(crc32) == found.to_bytes(4, "big"):
                file.flush()
                return
            s3.retry("read")
        raise s3.Unavailable(
            f"{self.where(name)} came {SPOILT} times with another CRC32 than the store keeps; see to what is "
            "between here and there, or restore the object from a copy"
        )

    def _part(self, name: str, offset: int, size: int, goes_on: Callable[[], None]) -> bytes:
        where = self._at(name)

        def ask() -> bytes:
            goes_on()
            data = s3.ranged(where["Bucket"], where["Key"], offset, size)
            if len(data) != size:
                raise ConnectionError(f"{len(data)} bytes came of {size}")
            return data

        return self._asked("read", name, ask)

    @contextlib.contextmanager
    def _named(self, name: str) -> Any:
        try:
            yield
        except botocore.exceptions.ClientError as error:
            if s3.status(error) == 404:
                raise self.missing(name) from None
            raise


def objects() -> Path:
    """Where copies of whole objects are."""
    return cache_folder() / "objects"


def forget() -> None:
    """Keep no copy of an object on this machine."""
    copies.forget(objects())
