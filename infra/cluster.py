"""Join a Ray cluster or start one here, and hand commands to it as jobs.

A remote cluster that asks nobody for a token runs anybody's code (CVE-2023-48022), so we go to none without a
token.
"""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import os
import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Annotated

import ray
from cyclopts import Parameter
from ray.job_submission import JobStatus, JobSubmissionClient

from infra.access import token

DASHBOARD_PORT = 8265
FINAL = (JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.STOPPED)


class Unauthenticated(ValueError):
    """The cluster is on another machine and asks for no token."""


def is_here(address: str) -> bool:
    """Whether the host part of ``[scheme://]host[:port]`` is this machine's loopback."""
    host = address.rpartition("://")[2].rpartition(":")[0].strip("[]") or address
    if host in {"auto", "local", "localhost"}:
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def refuse_open(address: str) -> None:
    if not is_here(address) and token() is None:
        raise Unauthenticated(
            f"{address} is not this machine and there is no token for it; start the cluster with "
            "RAY_AUTH_MODE=token, and name its token here with RAY_AUTH_TOKEN_PATH"
        )


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
    options = {"address": address} if address else {"include_dashboard": False, "address": "local"}
    ray.init(**options, log_to_driver=False, logging_level=logging.ERROR)
    try:
        yield
    finally:
        ray.shutdown()


def dashboard(address: str | None) -> str:
    """The address of the job server: ``http://…`` as it is, else port 8265 of the given host or of here."""
    if address and address.startswith(("http://", "https://")):
        return address
    host = address.rpartition("://")[2].rpartition(":")[0] if address else "127.0.0.1"
    return f"http://{host}:{DASHBOARD_PORT}"


def follow(command: Sequence[str], *, address: str | None, environment: dict[str, str]) -> int:
    """Run ``pardalis COMMAND`` as a Ray job: print its id and its log as it comes, return its exit code.

    ``environment`` reaches the job, and is shown by Ray's dashboard: pass addresses, never secrets.
    """
    server = dashboard(address)
    refuse_open(server)
    shown = token()
    client = JobSubmissionClient(server, headers={"Authorization": f"Bearer {shown}"} if shown else None)
    # The job's driver must join the cluster that runs it, whatever its command line says about engines.
    entrypoint = f"{shlex.quote(sys.executable)} -m infra.cli {shlex.join(command)}"
    job = client.submit_job(entrypoint=entrypoint, runtime_env={"env_vars": environment})
    sys.stderr.write(f"job {job}\n")
    seen = 0
    while True:
        final = client.get_job_status(job) in FINAL
        log = client.get_job_logs(job)
        sys.stdout.write(log[seen:])
        sys.stdout.flush()
        seen = len(log)
        if final:
            info = client.get_job_info(job)
            code = info.driver_exit_code
            return code if code is not None else int(info.status != JobStatus.SUCCEEDED)
        time.sleep(0.5)


PASSED_ON = ("PARDALIS_CORPUS", "AWS_ENDPOINT_URL", "AWS_REGION", "AWS_DEFAULT_REGION", "XDG_CACHE_HOME")
"""Variables that a job inherits: addresses only. Credentials come to workers from roles or files."""


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
    environment = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    address = address or os.environ.get("RAY_ADDRESS")
    return follow(command, address=address, environment=environment)
