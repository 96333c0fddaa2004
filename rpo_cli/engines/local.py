"""The local engine: this process, or with several GPUs a worker process on each of them."""

import os
from collections.abc import Iterable
from functools import partial

from rpo_cli.compute import pick_device
from rpo_cli.config import RunSettings
from rpo_cli.engines.process import Processes
from rpo_cli.engines.spread import Sink, Tell, alone, spread
from rpo_cli.errors import UsageError
from rpo_cli.protocols import MakeStage, Task


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
