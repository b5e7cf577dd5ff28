"""The processes that train together: which one this is, who started them, and how all come to know what one knows."""

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

Told = TypeVar("Told")


@dataclass(frozen=True, kw_only=True)
class Team:
    """The processes that train together, one for each device.

    Attributes
    ----------
    rank, local_rank
        Number of this process among all, and among those of its machine.
    world
        Processes in all.
    nodes
        Machines, with as many processes each.
    """

    rank: int = 0
    local_rank: int = 0
    world: int = 1
    nodes: int = 1

    @property
    def leads(self) -> bool:
        """True in the one process that writes and speaks for all."""
        return self.rank == 0

    @property
    def devices(self) -> int:
        """Processes of each machine."""
        return self.world // self.nodes

    def told(self, value: Told) -> Told:
        """Return what the leading process gave, in every process; all must call it."""
        if self.world == 1:
            return value
        message: list[Any] = [value]
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=FutureWarning)  # torch's own pickling calls an old name
            distributed.broadcast_object_list(message, src=0, device=torch.device("cpu"))
        told: Told = message[0]
        return told


def launched_team(config: TrainingConfig) -> Team:
    """Team that ``torchrun`` or SLURM started this process in, from the environment; one process alone without them.

    Raises
    ------
    ValueError
        Where ``training.devices`` or ``training.nodes`` ask for another number than there is.
    """
    environment = _environment()
    if environment is None:
        team, start = Team(), "torchrun --nproc-per-node N --nnodes M scripts/train.py, or SLURM with a task per device"
    else:
        nodes = int(os.environ.get("GROUP_WORLD_SIZE", os.environ.get("SLURM_NNODES", "1")))
        rank, local_rank = environment.global_rank(), environment.local_rank()
        team = Team(rank=rank, local_rank=local_rank, world=environment.world_size(), nodes=nodes)
        start = "auto, or as many as were started"
    for name in ("devices", "nodes"):
        asked, there = getattr(config, name), getattr(team, name)
        if asked not in ("auto", there):
            raise ValueError(f"training.{name} is {asked}, but there is {there} started here; allowed: {start}")
    return team


@contextmanager
def joined_team(config: TrainingConfig) -> Iterator[Team]:
    """Give the team of this process, connected as long as the block lasts; only the leading one says how it goes."""
    team, environment = launched_team(config), _environment()
    if team.world == 1 or environment is None:
        yield team
        return
    cuda = config.device != "cpu" and torch.cuda.is_available()
    if cuda:
        torch.cuda.set_device(team.local_rank)
    os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"] = environment.main_address, str(environment.main_port)
    backend = "cpu:gloo,cuda:nccl" if cuda else "gloo"
    distributed.init_process_group(backend, rank=team.rank, world_size=team.world)
    package = logging.getLogger("mmagn")
    level = package.level
    if not team.leads:
        package.setLevel(logging.ERROR)
    try:
        yield team
    finally:
        package.setLevel(level)
        distributed.destroy_process_group()


def _environment() -> ClusterEnvironment | None:
    """What started the processes; None where this one was started by hand."""
    if TorchElasticEnvironment.detect():
        return TorchElasticEnvironment()
    return SLURMEnvironment(auto_requeue=False) if SLURMEnvironment.detect() else None
