"""The local engine: this process, or with several GPUs a worker process on each, over a pipe.

A worker ends when its pipe does, so none outlives its engine, whatever killed that.
"""

import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import partial
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from types import FrameType
from typing import Any, NoReturn

from rpo_cli.compute import pick_device
from rpo_cli.config import RunSettings
from rpo_cli.engines.workers import Batch, Event, Lost, Sink, Tell, Worker, alone, failed, spread
from rpo_cli.errors import Terminated, UsageError
from rpo_cli.protocols import MakeStage, Stage, Task

GRACE = 5.0  # seconds that a worker is given to end by itself; a command that is stopped waits for it
# isolated: a worker imports what its engine would, and nothing of the current folder
PROGRAM = """
import sys
sys.path[:] = sys.argv[2:]
from rpo_cli.engines.local import serve
serve(int(sys.argv[1]))
"""


class Processes:
    """Workers in processes of their own (`spread.Pool`); they end when this process does."""

    def __init__(self, device: str, threads: int, gpus: Sequence[str]) -> None:
        """`gpus`: one name for CUDA_VISIBLE_DEVICES per worker; "" leaves it as it is."""
        self.count = len(gpus)
        self._lines: dict[int, Connection] = {}
        self._processes: list[subprocess.Popen[bytes]] = []
        for worker, gpu in enumerate(gpus):
            ours, theirs = Pipe()
            with theirs:
                self._processes.append(_started(theirs.fileno(), gpu))
            self._lines[worker] = ours
            ours.send((device, threads))

    def begin(self, worker: int, stage: Stage) -> None:
        self._send(worker, stage)

    def put(self, worker: int, batch: Batch | None) -> None:
        self._send(worker, batch)

    def _send(self, worker: int, what: Stage | Batch | None) -> None:
        with suppress(BrokenPipeError, ConnectionResetError, KeyError):  # `event` tells that it is lost
            self._lines[worker].send(what)

    def event(self) -> tuple[int, Event]:
        (ready, *_) = wait(list(self._lines.values()))
        worker = next(number for number, line in self._lines.items() if line is ready)
        try:
            event: Event = _receive(self._lines[worker])
            return worker, event
        except EOFError:
            self._lines.pop(worker).close()
            return worker, Lost(_ended(self._processes[worker]))

    def close(self) -> None:
        for line in self._lines.values():
            line.close()
        until = time.monotonic() + GRACE
        for process in self._processes:
            try:
                process.wait(max(0.0, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _started(pipe: int, gpu: str) -> "subprocess.Popen[bytes]":
    """A worker at its end of the pipe; no Ctrl-C of the terminal reaches it, its engine tells it."""
    hushed = ["-W", "ignore"] if ("ignore", None, Warning, None, 0) in warnings.filters else []
    return subprocess.Popen(
        [sys.executable, "-I", *hushed, "-c", PROGRAM, str(pipe), *sys.path],
        stdin=subprocess.DEVNULL,
        env={**os.environ, **({"CUDA_VISIBLE_DEVICES": gpu} if gpu else {})},
        pass_fds=[pipe],
        start_new_session=True,
    )


def _ended(process: "subprocess.Popen[bytes]") -> str:
    """How a worker whose pipe is gone has ended."""
    try:
        code = process.wait(GRACE)
    except subprocess.TimeoutExpired:
        return "it let go of its pipe"
    return signal.strsignal(-code) or f"signal {-code}" if code < 0 else f"exit {code}"


def serve(pipe: int) -> None:
    """The worker's end: say hello, take a stage, then batches until None."""
    signal.signal(signal.SIGTERM, _terminated)
    os.set_inheritable(pipe, False)  # what a backend starts must not keep it open
    line, sending = Connection(pipe), threading.Lock()

    def send(event: Event) -> None:
        with sending:  # rows come from the thread that encodes them, notes from this one
            line.send(event)

    try:
        device, threads = _receive(line)
        worker = Worker(send, device, threads)
        worker.hello()
        _work(line, worker)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        pass  # there is no engine any more
    except Terminated as stopped:
        sys.exit(stopped.exit_code)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # it is ending


def _work(line: Connection, worker: Worker) -> None:
    try:
        stage: Stage = _receive(line)
    except EOFError:
        raise
    except Exception as error:  # noqa: BLE001 -- a stage that this process cannot read
        worker.send(failed(error))
        return
    threading.Thread(target=_listen, args=(line, worker), daemon=True).start()
    worker.work(stage)


def _listen(line: Connection, worker: Worker) -> None:
    """Batches into the inbox as they come; without an engine there is nothing left to do."""
    try:
        while (batch := _receive(line)) is not None:
            worker.put(batch)
        worker.put(None)
    except EOFError:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(GRACE)
        os._exit(Terminated.exit_code)
    except Exception as error:  # noqa: BLE001 -- a batch that this process cannot read
        worker.send(failed(error))
        _listen(line, worker)  # to its end, which this engine now makes


def _receive(line: Connection) -> Any:
    """The next message of the other end.

    Raises:
        EOFError: it is gone, be it in the middle of a message.
    """
    try:
        message = line.recv_bytes()
    except OSError as error:
        raise EOFError from error
    return pickle.loads(message)  # of our own process at the other end, by a pipe that no other has


def _terminated(number: int, frame: FrameType | None) -> NoReturn:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one must not stop a backend's closing
    raise Terminated


class LocalEngine:
    """Runs a stage in this process; with `run.workers` beyond 1 in as many processes, each with its model.

    Left open, that is one worker per CUDA device and one on any other machine.
    """

    def __init__(self, note: Tell, settings: RunSettings) -> None:
        self._note, self._settings, self.workers = note, settings, 1

    def run(self, make: MakeStage, tasks: Iterable[Task], sink: Sink) -> None:
        device = pick_device(self._settings.device)
        gpus = visible_gpus() if device == "cuda" else []
        count = self._settings.workers or max(1, len(gpus))
        if gpus and count > len(gpus):
            raise UsageError(
                f"run.workers: {count} workers, and this machine shows {len(gpus)} GPUs",
                "one worker a GPU at most; CUDA_VISIBLE_DEVICES says which are shown",
            )
        self.workers = count
        if count == 1:
            alone(make, tasks, sink, self._note, self._settings)
        else:
            threads = self._settings.threads or max(1, (os.cpu_count() or 1) // count)
            pool = partial(Processes, device, threads, gpus[:count] or [""] * count)
            spread(make, tasks, sink, self._note, self._settings, pool)


def visible_gpus() -> list[str]:
    """The CUDA devices that processes of this one's environment may see, by name for CUDA_VISIBLE_DEVICES.

    Of slices of a GPU (MIG) a process sees one alone, so those that are named count, not those it sees.
    """
    import torch

    named = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    if named and all(name.startswith("MIG-") for name in named):
        return named
    count = torch.cuda.device_count()
    return named[:count] if named else [str(index) for index in range(count)]
