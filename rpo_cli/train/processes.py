"""The processes of one training: what each computes, and what they tell each other.

Every process holds the same weights and takes a share of every global batch; their gradients are added up
to one, so all make the same optimiser step. Draws are functions of seed, step and position, so they do not
depend on who computes them. A process that ends closes its sockets, and the others' next exchange fails.

With `train.processes = N` this process is the first of N, and starts the others itself. A helper gets its
share of the training in one pickle and computes it; it writes no file and ends when this process does. On
one machine only: `accelerate launch` starts processes on several.
"""

import hashlib
import os
import pickle
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise
from math import prod
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, NoReturn

import torch
import torch.distributed as dist
from torch import Tensor, nn

from rpo_cli.children import Child, begin, end, own_command
from rpo_cli.compute import launched
from rpo_cli.config import TrainSettings
from rpo_cli.errors import Case, RpoError, UsageError, translated
from rpo_cli.train.objectives.objective import Errors, Known, ranks

STEP_LIMIT = timedelta(minutes=30)  # of one exchange of gradients
WAIT_LIMIT = timedelta(days=7)  # of one barrier: the first process may be encoding a large dataset
CHUNK = 2**24  # numbers of one exchange of gradients


class LostProcess(RpoError):
    """An exchange failed: another process ended, or does not answer."""


LOST = Case(
    [RuntimeError],  # what torch.distributed raises, its own class included
    "another process of this training ended or does not answer ({why})",
    "nothing is lost: start the training again, and see what the other process said",
    LostProcess,
)


@dataclass(frozen=True)
class World:
    """This process among `size`; the first, rank 0, writes what is common.

    Attributes:
        control: a group over CPU tensors for barriers and notes; None in a world of one.
    """

    rank: int = 0
    size: int = 1
    control: dist.ProcessGroup | None = None

    @property
    def leads(self) -> bool:
        """Whether this process writes files and speaks."""
        return self.rank == 0

    def shares(self, units: int) -> list[range]:
        """What each process takes of `units` things in order: consecutive ones, as evenly as it goes."""
        bounds = [rank * units // self.size for rank in range(self.size + 1)]
        return [range(first, last) for first, last in pairwise(bounds)]

    def share(self, units: int) -> range:
        """What this process takes."""
        return self.shares(units)[self.rank]

    @contextmanager
    def first(self) -> Iterator[None]:
        """The first process does what is within, then the others do it and find its files there."""
        if not self.leads:
            self.barrier()
        yield
        if self.leads:
            self.barrier()

    def barrier(self) -> None:
        """Wait for all.

        Raises:
            LostProcess: one has ended.
        """
        if self.size > 1:
            with translated(LOST):
                dist.all_reduce(torch.zeros(1), group=self.control)

    def agree(self, text: str) -> None:
        """Make sure that all processes say the same.

        Raises:
            RpoError: they do not.
        """
        if self.size == 1:
            return
        mine = torch.frombuffer(bytearray(hashlib.sha256(text.encode()).digest()), dtype=torch.uint8)
        found = [torch.empty_like(mine) for _ in range(self.size)]
        with translated(LOST):
            dist.all_gather(found, mine, group=self.control)
        if not all(torch.equal(mine, other) for other in found):
            raise RpoError(
                "the processes of this training differ in settings, data, model or checkpoint",
                "start all with one command and one software, on one file system",
            )

    def add_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Every gradient becomes the sum over the processes, whose losses are shares of one mean.

        Raises:
            LostProcess: one has ended.
        """
        if self.size == 1:
            return
        slopes = [parameter.grad for parameter in parameters if parameter.grad is not None]
        while slopes:
            some = [slopes.pop()]
            while slopes and sum(slope.numel() for slope in some) + slopes[-1].numel() <= CHUNK:
                some.append(slopes.pop())
            flat = torch.cat([slope.reshape(-1) for slope in some])
            with translated(LOST):
                dist.all_reduce(flat)
            parts = flat.split([slope.numel() for slope in some])
            for slope, part in zip(some, parts, strict=True):
                slope.copy_(part.view(slope.shape))

    def gather(self, values: Tensor, counts: list[int]) -> Tensor:
        """(R, own) of each process → (R, all), in the order of the processes.

        Args:
            counts: columns that each process holds.
        """
        padded = values.new_zeros(len(values), max(counts))
        padded[:, : values.shape[1]] = values
        found = [torch.empty_like(padded) for _ in counts]
        with translated(LOST):
            dist.all_gather(found, padded)
        return torch.cat([part[:, :count] for part, count in zip(found, counts, strict=True)], dim=1)


ALONE = World()


@contextmanager
def joined(rank: int, size: int, device: str, method: str = "env://") -> Iterator[World]:
    """This process as one of `size`; gloo between CPUs, nccl between GPUs.

    Args:
        method: where the processes meet, as torch.distributed takes it.

    Raises:
        LostProcess: the others did not come.
    """
    on_gpu = torch.device(device).type == "cuda"
    if on_gpu:
        torch.cuda.set_device(device)
    with translated(LOST):
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if on_gpu else "gloo",
            init_method=method,
            rank=rank,
            world_size=size,
            timeout=STEP_LIMIT,
        )
        control = dist.new_group(backend="gloo", timeout=WAIT_LIMIT)
    try:
        yield World(rank, size, control)
    finally:
        dist.destroy_process_group()


def gather_errors(world: World, errors: Errors, counts: list[int]) -> Errors:
    """Errors of some items at each process → of all, in the order of the processes; without gradient."""
    if world.size == 1:
        return errors
    names = ("policy", "reference", "cross", "distance")
    values = {name: getattr(errors, name) for name in names}
    found = {name: None if value is None else ranks(value, errors.width) for name, value in values.items()}
    known = {f"known.{name}": value for name, value in vars(errors.known).items()}
    whole = gather_tables(
        world, {k: v.detach() for k, v in (found | known).items() if v is not None}, counts
    )
    flat = {name: whole[name].reshape(-1) if name in whole else None for name in found}
    told = {name: whole.get(f"known.{name}") for name in vars(errors.known)}
    policy = whole["policy"].reshape(-1)
    return Errors(policy, flat["reference"], flat["cross"], Known(**told), errors.width, flat["distance"])


def gather_tables(world: World, tables: Mapping[str, Tensor], counts: list[int]) -> dict[str, Tensor]:
    """Tensors of one dtype, (..., own) → (..., all) in the order of the processes, in one exchange."""
    if world.size == 1:
        return dict(tables)
    rows = {n: value.reshape(prod(value.shape[:-1]), value.shape[-1]) for n, value in tables.items()}
    whole = world.gather(torch.cat(list(rows.values())), counts)
    parts = whole.split([len(value) for value in rows.values()])
    return {
        name: part.reshape(*tables[name].shape[:-1], sum(counts))
        for name, part in zip(rows, parts, strict=True)
    }


def loopback() -> dict[str, str]:
    """Environment of processes that talk within this machine only."""
    name = "lo" if os.path.exists("/sys/class/net/lo") else "lo0"
    return {"GLOO_SOCKET_IFNAME": name, "NCCL_SOCKET_IFNAME": name}


Share = Callable[[World], object]  # what one process does of a training; it pickles
READY = b"ready\n"
HELP = "rpo_cli.train.processes:help_out"
GRACE = 20.0  # seconds that a helper is given to end by itself


@contextmanager
def crew(
    settings: TrainSettings, device: str, share: Callable[[str], Share], items: str = "pairs"
) -> Iterator[World]:
    """The processes of a training: those of a launcher, or N of our own, or this one alone.

    Args:
        share: the device of a helper → what it does.
        items: what a step consists of.

    Raises:
        UsageError: more processes than GPUs or items of a step.
        RpoError: a helper ended.
    """
    launch = launched()
    require_room(max(launch.size, settings.processes), settings, device, items)
    if launch.size > 1:
        with joined(launch.rank, launch.size, device) as world:
            yield world
    elif settings.processes > 1:
        with (
            TemporaryDirectory(prefix="rpo-") as folder,
            _with_helpers(settings.processes, device, share, Path(folder)) as world,
        ):
            yield world
    else:
        yield ALONE


def require_room(processes: int, settings: TrainSettings, device: str, items: str = "pairs") -> None:
    """Refuse processes that have nothing to do or nowhere to run."""
    launch = launched()
    if launch.size > 1 and settings.processes > 1:
        raise UsageError(
            f"--processes {settings.processes}: this is already one of {launch.size} processes",
            "use --processes without a launcher, or `accelerate launch` without --processes",
        )
    if processes > settings.global_batch:
        raise UsageError(
            f"{processes} processes share the {settings.global_batch} {items} of a step",
            "raise train.global_batch, or start fewer processes",
        )
    here = settings.processes if launch.size == 1 else launch.local + 1
    if device.startswith("cuda") and here > torch.cuda.device_count():
        raise UsageError(
            f"{here} processes on this machine, and it has {torch.cuda.device_count()} GPUs",
            "start one process a GPU",
        )


def threads_each(threads: int, processes: int) -> int:
    """CPU threads of a process, unless they were named: several share those of the machine."""
    return threads if threads or processes == 1 else max(1, (os.cpu_count() or 1) // processes)


def device_of(device: str, local: int) -> str:
    """Each process of a machine has a GPU of its own."""
    return f"cuda:{local}" if torch.device(device).type == "cuda" else device


@contextmanager
def _with_helpers(count: int, device: str, share: Callable[[str], Share], folder: Path) -> Iterator[World]:
    meeting = f"file://{folder / 'meeting'}"
    helpers: list[Child] = []
    os.environ.update(loopback())
    try:
        for rank in range(1, count):
            own = device_of(device, rank)
            job = pickle.dumps((share(own), rank, count, own, meeting))
            helpers.append(begin(own_command(HELP), folder / f"{rank}.log", answers=True))
            helpers[-1].write(job)
        for helper in helpers:
            if helper.line() != READY:
                raise LostProcess("a process did not start", "")
        with joined(0, count, device_of(device, 0), meeting) as world:
            yield world
    except LostProcess as error:
        raise _story(helpers, error) from error
    finally:
        end(helpers, GRACE)


def _story(helpers: Sequence[Child], error: LostProcess) -> RpoError:
    """Which helper ended, and what it said."""
    deadline = time.monotonic() + GRACE
    while time.monotonic() < deadline:
        for rank, helper in enumerate(helpers, 1):
            if helper.process.poll():
                return RpoError(
                    f"process {rank} of {len(helpers) + 1} ended: {helper.ending()}",
                    "nothing is lost: the same command goes on from the last checkpoint",
                )
        time.sleep(0.1)
    return error


def help_out() -> NoReturn:
    """What a helper does: its share of one training, which its stdin tells."""
    source = sys.stdin.buffer
    share, rank, count, device, meeting = pickle.load(source)
    sys.stdout.buffer.write(READY)  # from here on the first process waits for this one
    sys.stdout.flush()
    threading.Thread(target=_end_with, args=(source,), daemon=True).start()
    try:
        with joined(rank, count, device, meeting) as world:
            share(world)
    except RpoError as error:
        sys.stderr.write(f"{error.message}\n")
        sys.exit(error.exit_code)
    sys.exit(0)


def _end_with(source: IO[bytes]) -> None:
    """End when the first process closes its side, however it ended."""
    source.read()
    os._exit(1)
