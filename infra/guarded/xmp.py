"""Read an XMP packet that we did not write, within budgets: only the properties asked for, as strings.

The surprising rule: a property is its full namespace. A file may bind the prefix ``plus`` to an address of
its own; what stands under it is then nothing we know. Entities, document types and external references are
refused before anything is expanded, and a value that we cannot read is refused, never skipped: what it says
might be a prohibition (ISO 16684-1, sections 6 and 7: the subset of RDF/XML that XMP uses).
"""

from __future__ import annotations

import codecs
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NoReturn

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import DefusedXMLParser, ParseError

from infra.guarded.refused import Refused

Properties = dict[str, tuple[str, ...]]
"""Values by ``{namespace}name``: of an array in its order, of alternatives the default language first."""

_RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
_ROOTS = ("{adobe:ns:meta/}xmpmeta", "{adobe:ns:meta/}xapmeta")
_ARRAYS = (f"{_RDF}Bag", f"{_RDF}Seq", f"{_RDF}Alt")
_LANGUAGE = "{http://www.w3.org/XML/1998/namespace}lang"
_ENCODINGS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
    (b"<\0\0\0", "utf-32-le"),
    (b"\0\0\0<", "utf-32-be"),
    (b"<\0", "utf-16-le"),
    (b"\0<", "utf-16-be"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Budgets of one packet. Editors write up to some 100 KB of history into one."""

    max_bytes: int = 1024 * 1024
    max_depth: int = 32
    max_nodes: int = 20_000
    """Elements and attributes together."""


PACKET = Limits()


def read(packet: bytes, wanted: Collection[str], *, file: str = "", limits: Limits = PACKET) -> Properties:
    """The wanted properties that the packet has: ``{namespace}name`` to its values, blank ones left out.

    Raises :class:`Refused` with rule ``size``, ``encoding``, ``entities``, ``syntax``, ``depth``, ``nodes``,
    ``root`` or ``shape``.
    """
    reader = _Reader(file, frozenset(wanted), limits)
    return reader.read(packet)


@dataclass(slots=True)
class _Node:
    tag: str
    attributes: Mapping[str, str]
    children: list[_Node] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    """Parts: adding to one string would copy it for every comment in between."""


@dataclass(frozen=True, slots=True)
class _Reader:
    file: str
    wanted: frozenset[str]
    limits: Limits

    def refuse(self, rule: str, detail: str) -> NoReturn:
        raise Refused(self.file, "XMP", rule, detail)

    def read(self, packet: bytes) -> Properties:
        if len(packet) > self.limits.max_bytes:
            self.refuse("size", f"{len(packet)} bytes, at most {self.limits.max_bytes} are read")
        found: dict[str, list[str]] = {}
        for name, values in self._statements(self._parse(self._text(packet))):
            found.setdefault(name, []).extend(filter(None, map(str.strip, values)))
        return {name: tuple(values) for name, values in found.items() if values}

    def _text(self, packet: bytes) -> str:
        """Decoded by how it begins, as XMP prescribes; a declared encoding is not believed."""
        encoding = next((name for start, name in _ENCODINGS if packet.startswith(start)), "utf-8")
        try:
            return packet.decode(encoding).strip("\0 \t\r\n")
        except UnicodeDecodeError as error:
            self.refuse("encoding", f"byte {error.start} is not {encoding}; write the packet as UTF-8")

    def _parse(self, text: str) -> _Node:
        tree = _Tree(self)
        parser = DefusedXMLParser(target=tree, forbid_dtd=True, forbid_entities=True, forbid_external=True)
        try:
            parser.feed(text)
            parser.close()
        except DefusedXmlException as error:
            self.refuse("entities", f"{type(error).__name__}: a packet declares nothing; leave it out")
        except ParseError as error:
            self.refuse("syntax", str(error.with_traceback(None)))
        finally:
            # A parser that failed, and its error, are in circles, which keep 6 MiB of a packet until they are
            # collected.
            vars(parser).clear()
        return tree.root.children[0]

    def _statements(self, root: _Node) -> Iterator[tuple[str, Iterator[str]]]:
        """What is said of the image itself; structures inside a property are about something else."""
        if root.tag not in (f"{_RDF}RDF", *_ROOTS):
            self.refuse("root", f"it begins with {root.tag[:80]!r}, not with x:xmpmeta or rdf:RDF")
        graphs = [root] if root.tag == f"{_RDF}RDF" else root.children
        subjects = (subject for graph in graphs if graph.tag == f"{_RDF}RDF" for subject in graph.children)
        for subject in subjects:
            for name in self.wanted & subject.attributes.keys():
                yield name, iter([subject.attributes[name]])
            for child in subject.children:
                if child.tag in self.wanted:
                    yield child.tag, self._values(child)

    def _values(self, node: _Node) -> Iterator[str]:
        """An address, a text, the items of an array, or the value of a qualified one."""
        given = [
            node.attributes[name] for name in (f"{_RDF}resource", f"{_RDF}value") if name in node.attributes
        ]
        yield from given
        qualified = any(child.tag == f"{_RDF}value" for child in node.children)
        for child in node.children:
            if child.tag in _ARRAYS:
                items = [item for item in child.children if item.tag == f"{_RDF}li"]
                for item in sorted(items, key=lambda item: item.attributes.get(_LANGUAGE) != "x-default"):
                    yield from self._values(item)
            elif child.tag in (f"{_RDF}Description", f"{_RDF}value"):
                yield from self._values(child)
            elif not qualified:
                self.refuse("shape", f"{node.tag} holds {child.tag[:80]!r}, neither a text nor an array")
        if not given and not node.children:
            if set(node.attributes) & {f"{_RDF}nodeID", f"{_RDF}ID"}:
                self.refuse("shape", f"{node.tag} points to another place; write the value itself")
            yield "".join(node.texts)


class _Tree:
    """Target of the parser: counts before it keeps."""

    def __init__(self, reader: _Reader) -> None:
        self._reader = reader
        self._nodes = 0
        self.root = _Node("", {})
        self._path = [self.root]

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        limits = self._reader.limits
        self._nodes += 1 + len(attributes)
        if self._nodes > limits.max_nodes:
            self._reader.refuse("nodes", f"more than {limits.max_nodes} elements and attributes")
        if len(self._path) > limits.max_depth:
            self._reader.refuse("depth", f"it nests more than {limits.max_depth} levels; flatten it")
        node = _Node(tag, attributes)
        self._path[-1].children.append(node)
        self._path.append(node)

    def end(self, _tag: str) -> None:
        self._path.pop()

    def data(self, text: str) -> None:
        self._path[-1].texts.append(text)

    def close(self) -> None:
        """Nothing is held."""
