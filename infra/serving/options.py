"""Options that services share: at which address, for whom, by how many replicas.

The surprising rule: annotations are not deferred here. Those of a class are looked up where its subclass
stands, and whoever adds an option to these need not import their types.
"""

import ipaddress
import math
import os
import shlex
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from infra.serving.callers import Rates

TOKEN = "PARDALIS_SERVICE_TOKEN"  # noqa: S105  # a variable's name
BURST_S = 2.0
"""Of the rate, at once after a pause."""
MIB = 1 << 20


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class DoorOptions:
    host: str = "127.0.0.1"
    port: int = 8000
    """0 takes a free one."""
    token_file: Path | None = None
    """File with one token a line; else the variable PARDALIS_SERVICE_TOKEN holds them."""
    open: Annotated[bool, Parameter(negative="")] = False
    """Ask nobody for a token; on loopback only."""
    replicas: int = 1
    """Copies of the model, each with a CPU (or --threads), and a share of the GPUs where there are any."""
    queue: int = 256
    """Requests that wait; more are answered 503."""
    address: str | None = None
    """Ray cluster to join; default $RAY_ADDRESS, else a local Ray."""

    def lookers(self, most: int, *, shards: int = 1) -> int:
        """Processes of a replica that decode pictures: its share of this machine's cores."""
        return max(1, min(most, len(os.sched_getaffinity(0)) // (self.replicas * shards)))

    def cluster(self) -> str | None:
        return self.address or os.environ.get("RAY_ADDRESS")


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenLines:
    """Lines that each begin with a token, and where they are from."""

    lines: str = field(repr=False)
    source: str


def tokens(service: DoorOptions, environment: Mapping[str, str]) -> TokenLines | None:
    """Of those to serve; None is everybody. Nobody who may come from another machine is served without a
    token.
    """
    if service.open:
        if not is_loopback(service.host):
            raise ValueError(f"--open --host {service.host}: without a token only loopback is served")
        return None
    if service.token_file is not None:
        return TokenLines(lines=service.token_file.read_text(), source=str(service.token_file))
    if TOKEN in environment:
        return TokenLines(lines=environment[TOKEN], source=f"${TOKEN}")
    raise ValueError(f"there is no token for callers; give --token-file, set {TOKEN}, or on loopback --open")


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def check_numbers(service: DoorOptions, names: Sequence[str]) -> None:
    """Those that are nothing unless they are above 0."""
    for name in names:
        if not 0 < getattr(service, name) < math.inf:
            option = name.replace("_", "-")
            raise ValueError(f"--{option} {getattr(service, name)}: give a number above 0")


def check_wait(wait_ms: float) -> None:
    if not 0 <= wait_ms < math.inf:
        raise ValueError(f"--wait-ms {wait_ms}: give a number from 0 on")


def app(kind: str, at: socket.socket) -> str:
    """The name of a service on Ray: several may run on one cluster."""
    return f"pardalis-{kind}-{socket.gethostname()}-{at.getsockname()[1]}"


def rates(per_s: float, *, unit: str) -> Rates:
    return Rates(per_s=per_s, burst=max(1.0, per_s * BURST_S), unit=unit)


def url(at: socket.socket) -> str:
    host, port = at.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def shown_token(service: DoorOptions) -> str:
    """An option of curl that shows the first token. The token is not in it: it would stay in the shell's
    history.
    """
    if service.open:
        return ""
    # The token alone: words may follow it in its line.
    file = shlex.quote(str(service.token_file))
    source = f"$(head -1 {file} | cut -d' ' -f1)" if service.token_file else f"${TOKEN}"
    return f' --oauth2-bearer "{source}"'
