"""The notices that stay with a training picture: a small XMP packet of our own.

The surprising rule: not a byte of the delivered packet is copied. Creator, credit, copyright notice, terms
and data mining are written anew as text; names of people pictured, places and editing history stay behind.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from xml.sax.saxutils import escape

_DC = "http://purl.org/dc/elements/1.1/"
_PHOTOSHOP = "http://ns.adobe.com/photoshop/1.0/"
_PLUS = "http://ns.useplus.org/ldf/xmp/1.0/"
_RIGHTS = "http://ns.adobe.com/xap/1.0/rights/"

CREATOR = f"{{{_DC}}}creator"
NOTICE = f"{{{_DC}}}rights"
CREDIT = f"{{{_PHOTOSHOP}}}Credit"
INSTRUCTIONS = f"{{{_PHOTOSHOP}}}Instructions"
USAGE_TERMS = f"{{{_RIGHTS}}}UsageTerms"
WEB_STATEMENT = f"{{{_RIGHTS}}}WebStatement"
DATA_MINING = f"{{{_PLUS}}}DataMining"
OTHER_CONSTRAINTS = f"{{{_PLUS}}}OtherConstraints"

MAX_CHARS = 1500
"""Of one notice. Five of them at 5 bytes a character (``&amp;``), and the creators, fit a JPEG's marker."""
MAX_CREATORS = 8
MAX_NAME = 256
_UNWRITABLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 has no way to write (section 2.2)."""
_HEAD = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    f'<rdf:Description rdf:about="" xmlns:dc="{_DC}" xmlns:photoshop="{_PHOTOSHOP}"'
    f' xmlns:plus="{_PLUS}" xmlns:xmpRights="{_RIGHTS}">'
)
_TAIL = '</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="r"?>'


@dataclass(frozen=True, slots=True, kw_only=True)
class Notices:
    """As the file has them; empty where it is silent."""

    creators: tuple[str, ...] = ()
    credit: str = ""
    notice: str = ""
    usage_terms: str = ""
    web_statement: str = ""
    """Address of a page about the rights."""
    data_mining: str = ""
    """Of several values the one that forbids most: the property has one."""


SILENT = Notices()


def packet(notices: Notices) -> bytes | None:
    """XMP of at most 65,504 bytes; None where there is nothing to say. Same notices, same bytes."""
    if notices == SILENT:
        return None
    return (_HEAD + "".join(_elements(notices)) + _TAIL).encode()


def _elements(notices: Notices) -> Iterator[str]:
    if notices.creators:
        names = notices.creators[:MAX_CREATORS]
        items = "".join(f"<rdf:li>{_written(name, MAX_NAME)}</rdf:li>" for name in names)
        yield f"<dc:creator><rdf:Seq>{items}</rdf:Seq></dc:creator>"
    for name, text in (("dc:rights", notices.notice), ("xmpRights:UsageTerms", notices.usage_terms)):
        if text:
            item = f'<rdf:li xml:lang="x-default">{_written(text)}</rdf:li>'
            yield f"<{name}><rdf:Alt>{item}</rdf:Alt></{name}>"
    plain = (
        ("photoshop:Credit", notices.credit),
        ("xmpRights:WebStatement", notices.web_statement),
        ("plus:DataMining", notices.data_mining),
    )
    yield from (f"<{name}>{_written(text)}</{name}>" for name, text in plain if text)


def _written(text: str, most: int = MAX_CHARS) -> str:
    return escape(_UNWRITABLE.sub(" ", text)[:most])
