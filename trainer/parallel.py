"""The ranks of a training group, and how a model lies over them: one, DistributedDataParallel, or FSDP2.

The surprising rule: without a process group every function here is that of a group of one, so the loop is
written once.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

T = TypeVar("T")
Strategy = Literal["ddp", "fsdp"]
BACKEND = "cpu:gloo,cuda:nccl"
"""gloo too where there are GPUs: checkpoints are agreed on and written from the CPU."""
TIMEOUT = timedelta(minutes=10)
"""A rank that is gone ends the others after so long."""


def device() -> torch.device:
    """The GPU of this rank, where there are any."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", torch.cuda.current_device())


def under_torchrun() -> bool:
    return "TORCHELASTIC_RUN_ID" in os.environ


@contextmanager
def joined() -> Iterator[None]:
    """Inside, the group that ``torchrun`` started; no group where it did not."""
    if not under_torchrun() or distributed.is_initialized():
        yield
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        distributed.init_process_group(BACKEND, timeout=TIMEOUT)
    else:
        distributed.init_process_group("gloo", timeout=TIMEOUT)
    try:
        yield
    finally:
        distributed.destroy_process_group()


def world_size() -> int:
    return distributed.get_world_size() if distributed.is_initialized() else 1


def rank() -> int:
    return distributed.get_rank() if distributed.is_initialized() else 0


def is_first() -> bool:
    return rank() == 0


def barrier() -> None:
    if distributed.is_initialized():
        distributed.barrier()


def total(value: Tensor) -> Tensor:
    """The sum over ranks."""
    summed = value.clone()
    if distributed.is_initialized():
        distributed.all_reduce(summed)
    return summed


def gathered(value: T) -> list[T]:
    """What each rank has, by rank."""
    if not distributed.is_initialized():
        return [value]
    found: list[Any] = [None] * world_size()
    distributed.all_gather_object(found, value)
    return found


def told_by_first(value: T) -> T:
    """What rank 0 says."""
    if not distributed.is_initialized():
        return value
    found: list[Any] = [value]
    distributed.broadcast_object_list(found, src=0)
    answer: T = found[0]
    return answer


def by_first(work: Callable[[], T]) -> T:
    """Done by rank 0 alone; what came of it, be it an error, is the same on all ranks."""
    done: tuple[Any, Exception | None] = (None, None)
    if is_first():
        try:
            done = (work(), None)
        except Exception as caught:  # noqa: BLE001  # whatever it is, nobody may wait for it in vain
            done = (None, caught)
    answer, error = told_by_first(done)
    if error is not None:
        raise error
    return answer  # type: ignore[no-any-return]  # what came through a message


def dealt(objective: nn.Module, blocks: nn.ModuleList, strategy: Strategy, *, half: bool) -> nn.Module:
    """The objective, spread over the ranks. ``fsdp`` shards each block, and what is left as one more group.

    Gradients come out as their mean over ranks. ``half``: sharded weights are gathered as bfloat16, and
    their gradients are added up in float32.
    """
    if not distributed.is_initialized():
        return objective
    if strategy == "ddp":
        return DistributedDataParallel(objective, gradient_as_bucket_view=True)
    kind = "cuda" if torch.cuda.is_available() else "cpu"
    mesh = init_device_mesh(kind, (world_size(),))
    policy = MixedPrecisionPolicy(
        param_dtype=torch.bfloat16 if half else None,
        reduce_dtype=torch.float32 if half else None,
        cast_forward_inputs=False,
    )
    for block in blocks:
        fully_shard(block, mesh=mesh, mp_policy=policy)
    fully_shard(objective, mesh=mesh, mp_policy=policy)
    return objective


def whole(objective: nn.Module) -> nn.Module:
    """What to call outside of training: without the hooks that wait for gradients."""
    return objective.module if isinstance(objective, DistributedDataParallel) else objective


def apart(objective: nn.Module) -> None:
    """Give each rank its own part back. FSDP2 leaves the last group whole behind a forward pass, for a
    backward pass that does not follow a validation.
    """
    if isinstance(objective, FSDPModule):
        objective.reshard()


def adding_up(objective: nn.Module, *, last: bool) -> AbstractContextManager[None]:
    """DistributedDataParallel exchanges gradients behind the last batch of an update only. FSDP2 behind each:
    gradients kept whole would cost the memory that it saves.
    """
    if isinstance(objective, DistributedDataParallel) and not last:
        return objective.no_sync()
    return nullcontext()


def local(value: Tensor) -> Tensor:
    """The part that this rank holds."""
    return value.to_local() if isinstance(value, DTensor) else value


def full(value: Tensor) -> Tensor:
    """A number that ranks hold together."""
    return value.full_tensor() if isinstance(value, DTensor) else value
