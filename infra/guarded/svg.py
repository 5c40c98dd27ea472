"""Read what an SVG that we did not write says of itself, within budgets: its title, words, author, licence.

The surprising rule: reading ends where the root's first ``metadata`` element ends. What follows are megabytes
of paths, which are neither parsed nor vouched for. A ``DOCTYPE`` may stand, since half of all old drawings
begin with W3C's: nothing that it names is fetched. A file that declares an entity is refused, used or not.

What counts is the full namespace, and what is said of the picture itself (SVG 1.1, section 21: RDF/XML inside
``metadata``; Creative Commons has had two namespaces). What is said of a licence, or of some other work, is
not read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import BinaryIO, NoReturn

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import DefusedXMLParser, ParseError

from infra.guarded.refused import Refused

_RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
_DC = "{http://purl.org/dc/elements/1.1/}"
_CC = ("{http://web.resource.org/cc/}", "{http://creativecommons.org/ns#}")
_SVG = ("{http://www.w3.org/2000/svg}", "")
"""A file of before the namespace has none."""
_ROOTS = tuple(f"{namespace}svg" for namespace in _SVG)
_METADATA = tuple(f"{namespace}metadata" for namespace in _SVG)
_WORKS = (f"{_RDF}Description", *(f"{namespace}Work" for namespace in _CC))
_LICENSES = tuple(f"{namespace}license" for namespace in _CC)
_DEEDS = tuple(f"{namespace}License" for namespace in _CC)
_NAMES = (f"{_RDF}li", f"{_DC}title")
"""Items of an array, and what an agent is called."""
_FIRST_BYTES = 16 * 1024
"""Of 7,458 drawings of openclipart, every one ended its metadata in the first 6 KB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Budgets of what is read, up to the end of the metadata."""

    max_bytes: int = 8 * 1024 * 1024
    """Some editors write metadata last, behind all paths; openclipart's largest drawing has 1.7 MB."""
    max_depth: int = 64
    max_nodes: int = 100_000
    """Elements and attributes together."""


DRAWING = Limits()


@dataclass(frozen=True, slots=True, kw_only=True)
class Metadata:
    """As written, without outer white space; blank values are left out. A file may say nothing."""

    titles: tuple[str, ...] = ()
    descriptions: tuple[str, ...] = ()
    keywords: tuple[str, ...] = ()
    creators: tuple[str, ...] = ()
    rights: tuple[str, ...] = ()
    """Names or a notice, in words."""
    licenses: tuple[str, ...] = ()
    """Addresses."""
    dates: tuple[str, ...] = ()
    """In any form: ``2005-08-21``, ``6/24/2005``, ``September 2005``."""


def read(drawing: BinaryIO, *, file: str = "", limits: Limits = DRAWING) -> Metadata:
    """What the metadata say; nothing where there are none.

    Raises :class:`Refused` with rule ``size``, ``encoding``, ``entities``, ``syntax``, ``depth``, ``nodes``
    or ``root``.
    """
    reader = _Reader(file, limits)
    said = list(_statements(reader.parse(drawing)))

    def of(*tags: str) -> tuple[str, ...]:
        stripped = (value.strip() for tag, value in said if tag in tags)
        return tuple(value for value in stripped if value)

    return Metadata(
        titles=of(f"{_DC}title"),
        descriptions=of(f"{_DC}description"),
        keywords=of(f"{_DC}subject"),
        creators=of(f"{_DC}creator"),
        rights=of(f"{_DC}rights"),
        licenses=of(*_LICENSES),
        dates=of(f"{_DC}date"),
    )


@dataclass(slots=True)
class _Node:
    tag: str
    attributes: Mapping[str, str]
    children: list[_Node] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    """Parts: adding to one string would copy it for every comment in between."""


def _statements(metadata: _Node) -> Iterator[tuple[str, str]]:
    """(property, value) of what is said of the picture: of a subject that has no address, or an empty one."""
    graphs = (graph for graph in metadata.children if graph.tag == f"{_RDF}RDF")
    for subject in (subject for graph in graphs for subject in graph.children):
        if subject.tag in _WORKS and not subject.attributes.get(f"{_RDF}about"):
            yield from subject.attributes.items()
            for child in subject.children:
                yield from ((child.tag, value) for value in _values(child))


def _values(node: _Node) -> Iterator[str]:
    """An address, a text, the items of an array, or the names of agents."""
    address = node.attributes.get(f"{_RDF}resource")
    if address is not None or not node.children:
        yield "".join(node.texts) if address is None else address
    for child in node.children:
        if child.tag in _DEEDS:
            yield child.attributes.get(f"{_RDF}about", "")
        elif child.children or child.tag in _NAMES:
            yield from _values(child)


class _Ended(Exception):
    """The metadata are read. Raised through the parser, so that not even the rest of the chunk is parsed."""


@dataclass(frozen=True, slots=True)
class _Reader:
    file: str
    limits: Limits

    def refuse(self, rule: str, detail: str) -> NoReturn:
        raise Refused(self.file, "metadata", rule, detail)

    def parse(self, drawing: BinaryIO) -> _Node:
        tree = _Tree(self)
        parser = DefusedXMLParser(target=tree, forbid_entities=True, forbid_external=True)
        try:
            for chunk in self._chunks(drawing):
                parser.feed(chunk)
            parser.close()
        except _Ended:
            return tree.metadata
        except Refused:
            raise
        except DefusedXmlException as error:
            self.refuse("entities", f"{type(error).__name__}: what it declares is not read; leave it out")
        except ParseError as error:
            self.refuse("syntax", str(error))
        except (LookupError, ValueError) as error:
            self.refuse("encoding", f"{error}; write the file as UTF-8")
        return tree.metadata

    def _chunks(self, drawing: BinaryIO) -> Iterator[bytes]:
        """Each as long as all before it: expat may begin a long attribute anew with every chunk."""
        size, most = 0, self.limits.max_bytes
        while chunk := drawing.read(max(size, _FIRST_BYTES)):
            yield chunk[: most - size]
            size += len(chunk)
            if size > most:
                self.refuse(
                    "size", f"its metadata do not end in the {most} bytes that are read; write them first"
                )


class _Tree:
    """Target of the parser: counts everything, and keeps what stands in the metadata."""

    def __init__(self, reader: _Reader) -> None:
        self._reader = reader
        self._nodes = 0
        self._depth = 0
        self._path: list[_Node] = []
        """From the metadata element down; empty outside it."""
        self.metadata = _Node("", {})

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        limits = self._reader.limits
        self._nodes += 1 + len(attributes)
        self._depth += 1
        if self._nodes > limits.max_nodes:
            self._reader.refuse("nodes", f"more than {limits.max_nodes} elements and attributes")
        if self._depth > limits.max_depth:
            self._reader.refuse("depth", f"it nests more than {limits.max_depth} levels; flatten it")
        if self._depth == 1 and tag not in _ROOTS:
            self._reader.refuse("root", f"it begins with {tag[:80]!r}, not with svg")
        if self._path:
            node = _Node(tag, attributes)
            self._path[-1].children.append(node)
            self._path.append(node)
        elif self._depth == 2 and tag in _METADATA:
            self._path.append(self.metadata)

    def end(self, _tag: str) -> None:
        self._depth -= 1
        if self._path:
            self._path.pop()
            if not self._path:
                raise _Ended

    def data(self, text: str) -> None:
        if self._path:
            self._path[-1].texts.append(text)

    def close(self) -> None:
        """Nothing is held."""
