"""Of which machines a step's profile tells, and that a machine of another kind refuses its work."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest

from pipeline import numerics
from pipeline.numerics import Machine, OtherMachine
from pipeline.scorers.installed import version as installed_version

LIBRARIES = ("numpy", "torch")
GPU = {"gpu": "one", "cuda": "12.9", "cudnn": 91000, "tf32": [False, True]}


def test_a_driver_without_a_gpu_lists_the_steps_of_workers_that_have_one() -> None:
    with numerics.working_on(Machine(instructions="AVX2", gpu=GPU)):
        assert numerics.device() == "cuda"
        assert numerics.workers(cpus=1, gpus=0.25).gpus == 0.25
        told = numerics.profile(threads=1, libraries=LIBRARIES, device=numerics.device())
    assert told["instructions"] == "AVX2"
    assert {name: told[name] for name in GPU} == GPU
    with numerics.working_on(dataclasses.replace(numerics.here(), gpu=None)):
        assert numerics.device() == "cpu"
        assert numerics.workers(cpus=1, gpus=0.25).gpus == 0


def test_a_machine_of_the_same_kind_does_the_work() -> None:
    numerics.check({})
    numerics.check({"c2pa": "0.38.1"})  # a library that decides, and multiplies nothing
    numerics.check(numerics.profile(threads=3, libraries=LIBRARIES) | {"batch": 8})


@pytest.mark.parametrize(
    ("differs", "said"),
    [
        ({"instructions": "another"}, "instructions .*, not 'another'"),
        ({"libraries": {"numpy": "0.1"}}, "libraries .*, not {'numpy': '0.1'}"),
    ],
)
def test_a_machine_of_another_kind_refuses(differs: dict[str, object], said: str) -> None:
    asked = numerics.profile(threads=1, libraries=LIBRARIES) | differs
    with pytest.raises(OtherMachine, match=said) as refused:
        numerics.check(asked)
    assert all(f"{name}={value}" in str(refused.value) for name, value in numerics.ALIKE.items())


COMPUTING = """
import faiss, threadpoolctl, torch
print("torch", torch.backends.cpu.get_cpu_capability())
print("faiss", faiss.SIMDConfig.get_level() == faiss.SIMDLevel_AVX2)
with torch.no_grad():
    torch.nn.Conv2d(32, 64, 3)(torch.zeros(4, 32, 64, 64))
for pool in threadpoolctl.threadpool_info():
    if pool["internal_api"] == "openblas":
        print("openblas", pool["architecture"])
"""


@pytest.mark.long
@pytest.mark.skipif(" avx2 " not in Path("/proc/cpuinfo").read_text(), reason="a CPU without AVX2")
def test_a_cpu_that_has_more_is_made_like_one_that_has_avx2() -> None:
    """Of MKL no library tells what it uses."""
    environment = {**os.environ, **numerics.ALIKE, "ONEDNN_VERBOSE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", COMPUTING], env=environment, capture_output=True, text=True, check=True
    )
    said = set(done.stdout.splitlines())
    assert {
        "torch AVX2",
        "faiss True",
        "openblas Haswell",
        "onednn_verbose,v1,info,cpu,isa:Intel AVX2",
    } <= said
    assert {line for line in said if line.startswith("openblas")} == {"openblas Haswell"}


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Another build of a library, as pip leaves it and Python finds it first."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def install(version: str) -> None:
        folder = tmp_path / "arithmetic-1.dist-info"
        folder.mkdir(exist_ok=True)
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: arithmetic\nVersion: {version}\n")

    return install


def test_builds_of_one_release_for_cpus_and_for_gpus_do_one_job(installed: Callable[[str], None]) -> None:
    """infra/deploy/docker has the head and CPU workers of PyTorch's index `cpu`, GPU workers of `cu130`."""
    installed("2.14.1+cpu")
    asked = numerics.profile(threads=1, libraries=("arithmetic", "numpy"))
    installed("2.14.1+cu130")
    numerics.check(asked)
    assert numerics.profile(threads=1, libraries=("arithmetic", "numpy")) == asked
    assert installed_version("arithmetic") == "2.14.1"  # of what computes scores
    installed("2.14.2+cu130")
    with pytest.raises(OtherMachine, match=r"'2\.14\.2'.*, not .*'2\.14\.1'"):
        numerics.check(asked)


@pytest.mark.parametrize("version", ["1.26.4", "2.0rc1", "3.1.post2", "7.0.dev0"])
def test_a_version_that_names_no_build_is_told_as_it_is(
    version: str, installed: Callable[[str], None]
) -> None:
    """So no key of a corpus that is there changes."""
    installed(version)
    told = numerics.profile(threads=1, libraries=("arithmetic",))
    assert told["libraries"] == {"arithmetic": version} == {"arithmetic": metadata.version("arithmetic")}


def test_a_worker_without_a_gpu_refuses_what_is_for_one() -> None:
    with numerics.working_on(Machine(instructions=numerics.here().instructions, gpu=GPU)):
        asked = numerics.profile(threads=1, libraries=LIBRARIES, device="cuda")
        numerics.check(asked)
    with (
        numerics.working_on(Machine(instructions=numerics.here().instructions, gpu=None)),
        pytest.raises(OtherMachine, match="device 'cpu', not 'cuda'"),
    ):
        numerics.check(asked)
