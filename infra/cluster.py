"""Join a Ray cluster or start one here, and hand commands to it as jobs.

A remote cluster that asks nobody for a token runs anybody's code (CVE-2023-48022), so we go to none without a
token. And it shows every job's command line and variables to all who may look at its dashboard, so none goes
there that holds a credential.
"""

from __future__ import annotations

import contextlib
import ipaddress
import itertools
import logging
import os
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import ray
from cyclopts import Parameter
from ray.job_submission import JobStatus, JobSubmissionClient

from infra import following
from infra.access import token
from infra.redaction import MASK, masked_here
from infra.settings import packaged
from infra.telemetry import say

DASHBOARD_PORT = 8265
JOB_CONFIG = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""Is set where this process is a job that was submitted."""
LIMITS = ("PARDALIS_S3_", "PARDALIS_CACHE_")
"""Variables by their beginning: how patient workers are with a store, and what they keep of it."""


class Unauthenticated(ValueError):
    """The cluster is on another machine and asks for no token."""


def host(address: str) -> str:
    """The host of ``[scheme://]host[:port]``; empty where it names none, or names it in two ways.

    What stands before an ``@`` or a backslash is a host to some parsers and none to others.

    >>> [host(address) for address in ("head", "ray://head:10001", "[::1]:6379", "http://127.0.0.1@evil")]
    ['head', 'head', '::1', '']
    """
    try:
        parts = urlsplit(address if "://" in address else f"//{address}")
        found = parts.hostname or ""
    except ValueError:
        return ""
    return "" if "@" in parts.netloc or "\\" in address else found


def is_here(address: str) -> bool:
    """Whether the address is on this machine's loopback."""
    found = host(address)
    if found in {"auto", "local", "localhost"}:
        return True
    try:
        return ipaddress.ip_address(found).is_loopback
    except ValueError:
        return False


def refuse_nameless(address: str) -> None:
    if not host(address):
        _, mark, after = address.rpartition("@")
        told = f"{MASK}@{after}" if mark else address
        raise ValueError(
            f"--address {told!r} names no host; write it as HOST:PORT or http://HOST:8265, nothing before it"
        )


def refuse_open(address: str) -> None:
    refuse_nameless(address)
    if not is_here(address) and token() is None:
        raise Unauthenticated(
            f"{address} is not this machine and there is no token for it; start the cluster with "
            "RAY_AUTH_MODE=token, and name its token here with RAY_AUTH_TOKEN_PATH"
        )


def limits() -> dict[str, str]:
    """That were set here, for workers elsewhere: they ask the store most of all."""
    return {name: value for name, value in os.environ.items() if name.startswith(LIMITS)}


@contextlib.contextmanager
def joined(address: str | None) -> Iterator[None]:
    """Be connected to the cluster at ``address``; ``None`` starts one here, which ends with the block."""
    # Ray warns that a later release will stop hiding devices from workers that ask for none; ours ask by
    # name.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    if address:
        refuse_open(address)
    if ray.is_initialized():
        yield
        return
    options: dict[str, Any] = (
        {"address": address} if address else {"include_dashboard": False, "address": "local"}
    )
    # A submitted job's workers have what the job has.
    if (told := limits()) and JOB_CONFIG not in os.environ:
        options["runtime_env"] = {"env_vars": told}
    try:
        # Ray puts the folder it was started from first on the workers' import path. That may be a delivery,
        # and a PIL.py in it would be run; nobody delivers to the root.
        with contextlib.chdir("/"):
            ray.init(**options, log_to_driver=False, logging_level=logging.ERROR)
    except ConnectionError as error:
        raise ConnectionError(
            f"no Ray cluster answers at {address} ({error}); see that it runs, or start one here without "
            "--address"
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def dashboard(address: str | None) -> str:
    """The address of the job server: ``http://…`` as it is, else port 8265 of the given host or of here."""
    address = address or "auto"
    refuse_nameless(address)
    if address.startswith(("http://", "https://")):
        return address
    found = host(address)
    named = "127.0.0.1" if found in {"auto", "local"} else found
    return f"http://[{named}]:{DASHBOARD_PORT}" if ":" in named else f"http://{named}:{DASHBOARD_PORT}"


def follow(command: Sequence[str], *, address: str | None, environment: dict[str, str]) -> int:
    """Run ``pardalis COMMAND`` as a Ray job: print its id and its log as it comes, return its exit code.

    ``environment`` reaches the job, and is shown by Ray's dashboard as the command is: addresses, no secrets.
    """
    refuse_credentials({f"word {place}": word for place, word in enumerate(command, start=1)} | environment)
    server = dashboard(address)
    refuse_file(command, server=server)
    refuse_open(server)
    shown = token()
    headers = {"Authorization": f"Bearer {shown}"} if shown else None
    try:
        client = JobSubmissionClient(server, headers=headers)
    except ConnectionError as error:
        raise ConnectionError(
            f"no job server of Ray answers at {server} ({error}); start one with `ray start --head`, or give "
            "--address"
        ) from error
    # The command as the cluster has it: on another machine ours lies elsewhere. Where a cluster was started
    # without it on the path, it may still lie in our folder.
    ours = shlex.quote(str(Path(sys.executable).parent))
    entrypoint = f'PATH="$PATH":{ours} pardalis {shlex.join(command)}'
    job = client.submit_job(entrypoint=entrypoint, runtime_env={"env_vars": environment})
    say(f"job {job}")
    again = f"`ray job logs --follow --address {server} {job}` follows it again"
    try:
        info = following.to_its_end(client, job, show, say)
    except following.Lost as error:
        raise ConnectionError(
            f"the job server at {server} does not answer any more ({error}), and job {job} may go on; {again}"
        ) from error
    except KeyboardInterrupt:
        say(f"job {job} goes on; {again}")
        raise
    code: int | None = info.driver_exit_code
    return code if code is not None else int(info.status != JobStatus.SUCCEEDED)


def show(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def refuse_file(command: Sequence[str], *, server: str) -> None:
    """A driver elsewhere finds no file of this machine."""
    words = [part for word in command for part in (word.split("=", 1) if "--config=" in word else [word])]
    named = [after for option, after in itertools.pairwise(words) if option == "--config"]
    for path in named:
        if path not in packaged() and Path(path).is_file() and not is_here(server):
            raise ValueError(
                f"--config {path} is a file of this machine, and the job runs at {host(server)}; name a "
                f"configuration of the package ({', '.join(packaged())}), and what differs by --set"
            )


def refuse_credentials(shown: Mapping[str, str]) -> None:
    for name, text in shown.items():
        if masked_here(text) != text:
            raise ValueError(
                f"{name} of the job holds a credential, and Ray shows that to all who see the job; leave it "
                "out: workers take credentials from roles or files"
            )


PASSED_ON = (
    "PARDALIS_CORPUS",
    "PARDALIS_METRICS",
    "AWS_ENDPOINT_URL",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "XDG_CACHE_HOME",
)
"""Variables that a job inherits, beside LIMITS: addresses only. Credentials come to workers from roles or
files."""


def submit(
    *command: Annotated[str, Parameter(allow_leading_hyphen=True)],
    address: str | None = None,
) -> int:
    """Run any pardalis command as a Ray job: print its id, follow its log, exit with its code.

    Example: pardalis submit --address http://127.0.0.1:8265 -- ingest /data/delivery --corpus /data/corpus

    Parameters
    ----------
    command
        The command line, after ``--``.
    address
        Ray's job server; default $RAY_ADDRESS, else port 8265 of this machine.
    """
    environment = {name: os.environ[name] for name in PASSED_ON if name in os.environ} | limits()
    address = address or os.environ.get("RAY_ADDRESS")
    return follow(command, address=address, environment=environment)
