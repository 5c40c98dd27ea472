"""What breaks of the store, on S3 or on a disk, while a job runs on nodes, and what was promised of it.

Nodes reach S3 through a proxy that does what networks do; what checks the corpus asks the server itself.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from infra.storage import Store
from tests.cluster.clusters import NODES, Cluster, cluster, until
from tests.cluster.faults import Recovered, fault, seldom
from tests.cluster.namespaces import need_hosts
from tests.cluster.test_faults import JOB_S, Job, on
from tests.infra.disks import Disk, mounted
from tests.infra.faulty_s3 import Fault, FaultyS3

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(400)]
OUT_S = 30.0
UNDISTURBED = "the job goes on as if nothing had been, with the same bytes"


@dataclass(frozen=True, slots=True, kw_only=True)
class Behind:
    """Nodes whose way to the store can be disturbed, and that share a small disk."""

    cluster: Cluster
    proxy: FaultyS3
    disk: Disk


@pytest.fixture(scope="module")
def behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Behind]:
    need_hosts()
    folder = tmp_path_factory.mktemp("store-faults")
    # Mounted before the nodes are there: each has its own view of what is mounted.
    with mounted("tmpfs", folder) as disk, cluster(folder, names=NODES[:3]) as found:
        server = urlsplit(found.s3.endpoint)
        gateway = f"{found.head.address.rpartition('.')[0]}.1"
        with FaultyS3((server.hostname or "", server.port or 0), (gateway, 0)) as proxy:
            found.s3.endpoint = proxy.endpoint
            found.start(*NODES[:3])
            yield Behind(cluster=found, proxy=proxy, disk=disk)


def disturbed(behind: Behind, job: Job, faults: Sequence[Fault]) -> float:
    """Seconds from the first disturbance in the middle of the job to its end, which is a good one."""
    behind.proxy.done.clear()
    with job.running() as process:
        until(lambda: bool(job.at_work()), JOB_S, "a shard is begun")
        behind.proxy.faults = faults
        began = time.monotonic()
        try:
            assert job.ended(process) == 0, job.err()
        finally:
            behind.proxy.faults = []
    assert {done.kind for done in behind.proxy.done} == {one.kind for one in faults}
    assert job.is_whole()
    return time.monotonic() - began


@pytest.mark.parametrize(
    "faults",
    [
        pytest.param(
            [Fault(kind="slow-down", share=0.3)],
            marks=fault("S3 answers 503 SlowDown to every third request", UNDISTURBED),
            id="slow down",
        ),
        pytest.param(
            [
                Fault(kind="reset-before", share=0.1, seed=1),
                Fault(kind="reset-midway", methods=["GET"], share=0.2, seed=2),
                Fault(kind="reset-after", methods=["PUT"], share=0.2, seed=3),
            ],
            marks=fault(
                "connections to S3 are reset before, amid and after answers", f"{UNDISTURBED}; once each"
            ),
            id="reset",
        ),
        pytest.param(
            [Fault(kind="truncated", methods=["GET"], share=0.4)],
            marks=fault("S3 cuts its answers short", UNDISTURBED),
            id="truncated",
        ),
        pytest.param(
            [Fault(kind="corrupt", methods=["GET"], share=0.3)],
            marks=fault("bytes are changed on their way from S3", UNDISTURBED),
            id="corrupt",
        ),
        pytest.param(
            [Fault(kind="slow", first_byte_s=0.5, bytes_per_s=20_000)],
            marks=fault("S3 answers after half a second, at 20 kB a second", UNDISTURBED),
            id="slow",
        ),
    ],
)
@seldom
def test_a_store_that_misbehaves(
    behind: Behind, tmp_path: Path, recovered: Recovered, faults: list[Fault]
) -> None:
    recovered(disturbed(behind, on(behind.cluster, tmp_path), faults))


@fault("S3 is out for 30 s", f"{UNDISTURBED}; PARDALIS_S3_PATIENCE_S says for how long it is waited for")
def test_a_store_that_is_out(behind: Behind, tmp_path: Path, recovered: Recovered) -> None:
    took = disturbed(behind, on(behind.cluster, tmp_path), [Fault(kind="out", seconds=OUT_S)])
    assert took > OUT_S
    recovered(took - OUT_S)


@fault(
    "the corpus's disk is full",
    "the job ends with exit 1 and says what has no room, and nothing looks complete; run again with room, it "
    "finishes with the same bytes",
)
def test_a_full_disk(behind: Behind, tmp_path: Path, recovered: Recovered) -> None:
    job = on(behind.cluster, tmp_path, store=Store.at(behind.disk.folder / "corpus"))
    with job.running() as process:
        until(lambda: bool(job.at_work()), JOB_S, "a shard is begun")
        behind.disk.fill(but=0)
        assert job.ended(process) == 1, job.err()
    assert "no room for" in job.err()
    assert "free some there and run again" in job.err()
    assert not job.artifacts()
    behind.disk.free()
    began = time.monotonic()
    with job.running() as process:
        assert job.ended(process) == 0, job.err()
    recovered(time.monotonic() - began)
    assert job.is_whole()
