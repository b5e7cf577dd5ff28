"""The process group that trains together: rank and size from what launched it, connection, and broadcast."""

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from torch import distributed

from mmagn.training.config import TrainingConfig

Value = TypeVar("Value")


@dataclass(frozen=True, kw_only=True)
class ProcessGroup:
    """The processes that train together, one for each device.

    Attributes
    ----------
    rank, local_rank
        Number of this process among all, and among those of its machine.
    world, nodes
        Processes in all, and machines, with as many processes each.
    """

    rank: int = 0
    local_rank: int = 0
    world: int = 1
    nodes: int = 1

    @property
    def leads(self) -> bool:
        """True in the one process that writes and logs."""
        return self.rank == 0

    @property
    def devices(self) -> int:
        """Processes of each machine."""
        return self.world // self.nodes

    def broadcast(self, value: Value) -> Value:
        """Return the value of the leading process, in every process; all must call it."""
        if self.world == 1:
            return value
        message: list[Any] = [value]
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=FutureWarning)  # torch's own pickling calls an old name
            distributed.broadcast_object_list(message, src=0, device=torch.device("cpu"))
        received: Value = message[0]
        return received


def launched_group() -> ProcessGroup:
    """Process group that ``torchrun`` or SLURM launched, from the environment; one process alone without them."""
    environment = _environment()
    if environment is None:
        return ProcessGroup()
    nodes = int(os.environ.get("GROUP_WORLD_SIZE", os.environ.get("SLURM_NNODES", "1")))
    rank, local_rank = environment.global_rank(), environment.local_rank()
    return ProcessGroup(rank=rank, local_rank=local_rank, world=environment.world_size(), nodes=nodes)


@contextmanager
def joined_group(config: TrainingConfig) -> Iterator[ProcessGroup]:
    """Yield the process group of this process, connected within the block; only the leading process logs."""
    group, environment = launched_group(), _environment()
    if group.world == 1 or environment is None:
        yield group
        return
    cuda = config.device != "cpu" and torch.cuda.is_available()
    if cuda:
        torch.cuda.set_device(group.local_rank)
    os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"] = environment.main_address, str(environment.main_port)
    backend = "cpu:gloo,cuda:nccl" if cuda else "gloo"
    distributed.init_process_group(backend, rank=group.rank, world_size=group.world)
    package = logging.getLogger("mmagn")
    level = package.level
    if not group.leads:
        package.setLevel(logging.ERROR)
    try:
        yield group
    finally:
        package.setLevel(level)
        distributed.destroy_process_group()


def _environment() -> ClusterEnvironment | None:
    """Return what launched the processes; None where this one was started by hand."""
    if TorchElasticEnvironment.detect():
        return TorchElasticEnvironment()
    return SLURMEnvironment(auto_requeue=False) if SLURMEnvironment.detect() else None
