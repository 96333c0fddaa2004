"""A process that trains in forked children, so that a test can kill one without paying its imports again.

Reads one JSON line per job: the fields of `TrainInputs`, settings under "settings"; with "online"
settings those of `OnlineInputs`, whose reward is the brightness. With "ranks": N it forks N children as a
launcher would start them. Answers with each child's pid, and after their ends with each one's exit status,
one a line.
"""

import json
import os
import socket
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from rpo_cli.config import OnlineSettings, TrainSettings
from rpo_cli.train.composition import Embedder, OnlineInputs, Rewards, TrainInputs
from rpo_cli.train.online import loop as rounds  # noqa: F401
from rpo_cli.train.online.run import train_online
from rpo_cli.train.run import train


def keep_gradient(path: Path) -> None:
    """Save what the optimiser is given at its first step."""
    step = torch.optim.AdamW.step

    def watch(optimiser, *given, **named):
        if not path.exists():
            slopes = [p.grad.flatten() for group in optimiser.param_groups for p in group["params"]]
            save_file({"gradient": torch.cat(slopes)}, path)
        return step(optimiser, *given, **named)

    torch.optim.AdamW.step = watch


def work(job: dict) -> None:
    if "gradient" in job:
        keep_gradient(Path(job.pop("gradient") + os.environ.get("RANK", "0")))
    if job.pop("differ", False):
        job["seed"] += int(os.environ["RANK"])
    if "online" in job:
        work_online(job)
        return
    paths = {name: Path(job.pop(name)) for name in ("dataset", "out", "cache")}
    if "embedder" in job:
        job["embedder"] = Embedder(**job["embedder"])
    train(TrainInputs(TrainSettings(**job.pop("settings")), **paths, **job))


def work_online(job: dict) -> None:
    online = OnlineSettings(**job.pop("online"))
    prompts = [(key, text) for key, text in job.pop("prompts")]
    rewards = Rewards({"bright": "1"}, lambda device: {"bright": Brightness()}, 4)
    settings, out = TrainSettings(**job.pop("settings")), Path(job.pop("out"))
    train_online(OnlineInputs(settings, online, prompts=prompts, rewards=rewards, out=out, **job))


class Brightness:
    """A reward: the mean of all pixels, in [0, 1]."""

    def setup(self) -> None: ...

    def score(self, prompts, images):
        return [float(np.asarray(image).mean() / 255) for image in images]


def launch(ranks: int) -> list[dict[str, str]]:
    """The environment of each process, as torchrun makes it; {} for one that no launcher starts."""
    if ranks == 1:
        return [{}]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    common = {"WORLD_SIZE": str(ranks), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    common |= {"GLOO_SOCKET_IFNAME": "lo"}
    return [common | {"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(ranks)]


def main() -> None:
    torch.set_num_threads(1)  # a pool of threads does not survive a fork
    for line in sys.stdin:
        job = json.loads(line)
        children = []
        for environment in launch(job.pop("ranks", 1)):
            children.append(os.fork())
            if children[-1] == 0:
                os.environ.update(environment)
                work(job)
                os._exit(0)
            answer(children[-1])
        for child in children:
            _, status = os.waitpid(child, 0)
            answer(os.waitstatus_to_exitcode(status))


def answer(value: int) -> None:
    sys.stdout.write(f"{value}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
