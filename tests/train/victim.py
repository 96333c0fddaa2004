"""A process that trains in forked children, so that a test can kill one without paying its imports again.

Reads one JSON line per job: the keyword arguments of `train`, settings under "settings". Answers with
the child's pid, and after its end with its exit status.
"""

import json
import os
import sys
from pathlib import Path

import torch

from rpo_cli.config import TrainSettings
from rpo_cli.train import loop, step  # noqa: F401  imported before the fork
from rpo_cli.train.run import train


def work(job: dict) -> None:
    step.VALIDATION_ITEMS = job.pop("validation_items")
    paths = {name: Path(job.pop(name)) for name in ("dataset", "out", "cache")}
    train(TrainSettings(**job.pop("settings")), **paths, **job)


def main() -> None:
    torch.set_num_threads(1)  # a pool of threads does not survive a fork
    for line in sys.stdin:
        job = json.loads(line)
        child = os.fork()
        if child == 0:
            work(job)
            os._exit(0)
        answer(child)
        _, status = os.waitpid(child, 0)
        answer(os.waitstatus_to_exitcode(status))


def answer(value: int) -> None:
    sys.stdout.write(f"{value}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
