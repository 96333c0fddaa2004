"""The Ray engine: a worker per GPU of a Ray cluster, wherever in it.

The cluster is the one that RAY_ADDRESS names; without it Ray is started on this machine alone, listening
on 127.0.0.1, and ends with this process. Every node needs the same rpo, and the models at the same paths or
from the hub. Ray's own ports ask nobody for a password: keep a cluster on a network of its own.
"""

import os
import queue
import signal
import socket
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import ray
from ray._private import ray_constants
from ray.exceptions import RayError
from ray.job_config import JobConfig

from rpo_cli.config import RunSettings
from rpo_cli.engines.loop import Batch, Event, Lost, Sink, Tell, Worker
from rpo_cli.engines.workers import spread
from rpo_cli.errors import RpoError
from rpo_cli.protocols import MakeStage, Stage, Task

ADDRESS = "RAY_ADDRESS"
PATIENCE = 10.0  # seconds that the head of a cluster is given to answer


class RayEngine:
    """Runs a stage on `run.workers` actors; left open, one per GPU, or per machine where there are none.

    Actors and not Ray Data: pictures are read as they are wanted and rows are committed as they come, so
    neither waits for, or lies in, the object store as a whole.
    """

    def __init__(self, note: Tell, settings: RunSettings) -> None:
        self._note, self._settings, self.workers = note, settings, 1

    def run(self, make: MakeStage, tasks: Iterable[Task], sink: Sink) -> None:
        spread(make, tasks, sink, self._note, self._settings, self._pool)

    def _pool(self) -> "Actors":
        found = Actors(self._settings, self._note)
        self.workers = found.count
        return found


class Actors:
    """Workers as Ray actors (`spread.Pool`); each joins when the cluster has room for it."""

    def __init__(self, settings: RunSettings, note: Tell) -> None:
        _connect(note)
        needs = _needs(settings)
        self.count = settings.workers or _room(needs)
        remote = ray.remote(max_concurrency=4, **needs)(Actor)
        self._actors = [remote.remote(settings.device, settings.threads) for _ in range(self.count)]
        self._next = {actor.event.remote(): worker for worker, actor in enumerate(self._actors)}

    def begin(self, worker: int, stage: Stage) -> None:
        self._actors[worker].work.remote(stage)

    def put(self, worker: int, batch: Batch | None) -> None:
        self._actors[worker].put.remote(batch)

    def event(self) -> tuple[int, Event]:
        (ready,), _ = ray.wait(list(self._next), num_returns=1)
        worker = self._next.pop(ready)
        try:
            event: Event = ray.get(ready)
        except RayError as error:
            return worker, Lost(_first_line(error))
        self._next[self._actors[worker].event.remote()] = worker
        return worker, event

    def close(self) -> None:
        for actor in self._actors:
            ray.kill(actor)


class Actor:
    """The worker's end: its methods run on threads of one process."""

    def __init__(self, device: str, threads: int) -> None:
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._worker = Worker(self._events.put, device, threads)
        self._worker.hello()

    def work(self, stage: Stage) -> None:
        self._worker.work(stage)

    def put(self, batch: Batch | None) -> None:
        self._worker.put(batch)

    def event(self) -> Event:
        return self._events.get()


def _connect(note: Tell) -> None:
    """Join the cluster, once a process."""
    if ray.is_initialized():
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is told to anybody
    address = os.environ.get(ADDRESS)
    if address:
        _require_there(address)
    try:
        with _own_sigterm():
            ray.init(
                address=address or "local",
                log_to_driver=False,
                logging_level="ERROR",
                job_config=_job(sys.path if not address else ()),
                **({} if address else _alone()),
            )
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise RpoError(
            f"Ray: {' '.join(str(error).split())[:300]}",  # of a wrong version, the versions come last
            f"{ADDRESS} is {address}: is that cluster up?" if address else "--engine local needs no Ray",
        ) from error
    if not address:
        note(f"Ray was started on this machine alone; {ADDRESS} names a cluster")


def _job(paths: Sequence[str]) -> JobConfig:
    """Actors import from `paths` and what their machine has installed, like a worker of the local engine.

    By itself Ray would put the current folder first, and a torch.py there would be run.
    """
    return JobConfig(_client_job=True, _py_driver_sys_path=[*reversed(paths)])  # each goes to the front


def _alone() -> dict[str, Any]:
    """Options of a Ray that nobody outside this machine reaches.

    On Linux Ray takes 127.0.0.1 for the machine's address in the network and listens on every interface,
    whatever `_node_ip_address` says; on other systems its own processes stay on loopback, by this switch.
    """
    ray_constants.ENABLE_RAY_CLUSTER = False  # read while Ray starts; the variable is for its processes
    os.environ[ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR] = "0"
    return {
        "include_dashboard": False,
        "_node_ip_address": "127.0.0.1",
        "_system_config": {"worker_niceness": 0},  # actors are this command's own work, not background
    }


@contextmanager
def _own_sigterm() -> Iterator[None]:
    """Keep what SIGTERM does: Ray would end the process with exit code 15 and a dump of its stack."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    if before is not None and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, before)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _require_there(address: str) -> None:
    """Refuse a cluster that nobody answers for; Ray itself would ask again for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not port.isdecimal():
        return  # "auto" and the like
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=PATIENCE).close()
    except OSError as error:
        raise RpoError(
            f"{ADDRESS}={address}: {error.strerror or error}", "`ray status` there tells whether it is up"
        ) from error


def _needs(settings: RunSettings) -> dict[str, float]:
    """What an actor asks the cluster for: a GPU where there are any, else threads, or a machine's worth."""
    gpus = ray.cluster_resources().get("GPU", 0)
    if gpus >= 1 and settings.device in ("auto", "cuda"):
        return {"num_gpus": 1, "num_cpus": settings.threads or 1}
    return {"num_gpus": 0, "num_cpus": settings.threads or least_cores(ray.nodes())}


def least_cores(nodes: list[dict[str, Any]]) -> float:
    """Of the machines that have any to offer: the head of a cluster often does not."""
    found = (node["Resources"].get("CPU", 0) for node in nodes if node["Alive"])
    return min((cores for cores in found if cores), default=1)


def _room(needs: dict[str, float]) -> int:
    """How many such actors the cluster has room for."""
    kind, each = ("GPU", needs["num_gpus"]) if needs["num_gpus"] else ("CPU", needs["num_cpus"])
    return max(1, int(ray.cluster_resources().get(kind, 0) // each))
