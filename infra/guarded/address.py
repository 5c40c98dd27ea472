"""Where an https address that we did not write may lead, told without asking the network.

The surprising rule: the standard library's word is not enough. ``is_global`` of CPython 3.11.7 takes NAT64,
6to4, multicast and ``fec0::/10`` for public machines, and its parsers repair addresses that others read
otherwise; here an address is of one plain shape, or refused.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection
from dataclasses import dataclass

from infra.guarded.refused import Refused
from infra.redaction import bare_uri

PORT = 443
MAX_URI = 2048
SHOWN = 80
"""Characters of a path that a message repeats."""
LABEL = "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
NAME = re.compile(rf"(?=.{{1,253}}$)({LABEL}\.)*(?=[a-z]){LABEL}")
"""A host's name. Its last label starts with a letter: one that starts with a digit may be a number."""
NEVER = tuple(
    map(
        ipaddress.ip_network,
        (
            "100.64.0.0/10",  # carriers' own, and some clouds' metadata
            "192.0.0.0/24", "192.88.99.0/24", "224.0.0.0/4",  # protocols, relays of 6to4, multicast
            "::/3", "4000::/2", "8000::/1",  # all outside 2000::/3: NAT64, site-local, multicast, unassigned
            "2001::/23", "2002::/16", "3fff::/20",  # Teredo and protocols, 6to4, documentation
        ),
    )
)  # fmt: skip
"""Never a public machine, whatever ``is_global`` says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where an address leads."""

    host: str
    path: str
    """With the query string: not for messages."""
    place: str
    """For messages."""


def shown(uri: str) -> str:
    """An address as a message may repeat it.

    >>> shown("https://user:secret@cdn.example/a.jpg?token=secret#x")
    'https://cdn.example/a.jpg'
    """
    scheme, mark, rest = bare_uri(uri).partition("://")
    if not mark:
        return f"{scheme.partition(':')[0][:20]}..."
    authority, slash, path = rest.partition("/")
    return f"{scheme[:20]}://{authority[:253]}{(slash + path)[:SHOWN]}"


def check_uri(uri: str, hosts: Collection[str]) -> Target:
    """Where an address leads, without asking the network; ``hosts`` are names in lower case.

    Raises :class:`Refused` with rule ``length``, ``scheme``, ``characters``, ``fragment``, ``userinfo``,
    ``host`` or ``port``.
    """
    place = shown(uri)
    if len(uri) > MAX_URI:
        raise Refused(place, "", "length", f"{len(uri)} characters, at most {MAX_URI} are read")
    if not uri.lower().startswith("https://"):
        raise Refused(place, "", "scheme", "only https:// addresses are followed")
    if not re.fullmatch(r"[!-\[\]-~]*", uri):
        fix = "percent-encode it"
        raise Refused(place, "", "characters", f"only printable ASCII without space or backslash; {fix}")
    if "#" in uri:
        raise Refused(place, "", "fragment", "a fragment is never sent; leave out what follows #")
    rest = uri[len("https://") :]
    authority = re.split("[/?]", rest, maxsplit=1)[0]
    path = rest.removeprefix(authority)
    host = _host(authority, hosts, place)
    return Target(host=host, path=path if path.startswith("/") else f"/{path}", place=place)


def _host(authority: str, hosts: Collection[str], place: str) -> str:
    if "@" in authority:
        told = "names and passwords do not belong in an address; leave out what precedes @"
        raise Refused(place, "", "userinfo", told)
    name, colon, port = authority.partition(":")
    host = name.lower()
    if not NAME.fullmatch(host):
        told = "it does not name a host; numeric addresses are not followed"
        raise Refused(place, "", "host", told)
    if host not in hosts:
        told = (
            f"allowed are {', '.join(sorted(hosts)[:10]) or 'no hosts'}; allow it in the delivery's "
            "allowed_hosts and in pipeline.fetch.hosts, or deliver the file"
        )
        raise Refused(place, "", "host", told)
    if colon and port != str(PORT):
        raise Refused(place, "", "port", f"only port {PORT} is dialled; leave the port out")
    return host


def check_address(address: str, place: str) -> None:
    """Raises :class:`Refused` with rule ``address`` for all but the addresses of public machines."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        raise Refused(place, "", "address", f"its host resolves to {address[:SHOWN]!a}, no address") from None
    plain = getattr(found, "ipv4_mapped", None) or found
    if not plain.is_global or any(plain in network for network in NEVER):
        told = f"its host resolves to {address}, which is not a public machine's"
        raise Refused(place, "", "address", f"{told}; deliver the file instead")
