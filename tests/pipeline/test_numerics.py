"""Of which machines a step's profile tells, and that a machine of another kind refuses its work."""

from __future__ import annotations

import dataclasses

import pytest

from pipeline import numerics
from pipeline.numerics import Machine, OtherMachine

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
    with pytest.raises(OtherMachine, match=said):
        numerics.check(asked)


def test_a_worker_without_a_gpu_refuses_what_is_for_one() -> None:
    with numerics.working_on(Machine(instructions=numerics.here().instructions, gpu=GPU)):
        asked = numerics.profile(threads=1, libraries=LIBRARIES, device="cuda")
        numerics.check(asked)
    with (
        numerics.working_on(Machine(instructions=numerics.here().instructions, gpu=None)),
        pytest.raises(OtherMachine, match="device 'cpu', not 'cuda'"),
    ):
        numerics.check(asked)
