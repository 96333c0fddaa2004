"""Online training on the tiny model of tests/train/conftest.py, with a reward that is quick to learn."""

from pathlib import Path

import numpy as np
import pytest

from rpo_cli.config import OnlineSettings, TrainSettings
from rpo_cli.train.composition import OnlineInputs, Rewards
from rpo_cli.train.online.run import train_online

PROMPTS = [("p0", "a red thing"), ("p1", "a blue thing"), ("p2", "a dog"), ("p3", "a cat")]


class Brightness:
    """The mean of all pixels, in [0, 1]."""

    def setup(self) -> None: ...

    def score(self, prompts, images):
        return [float(np.asarray(image).mean() / 255) for image in images]


def bright(device="cpu"):
    return {"bright": Brightness()}


@pytest.fixture
def run_online(model, tmp_path):
    """Call `train_online` on the tiny model; any argument or setting may be given."""

    def call(out: str | Path = "out", **given):
        arguments = {
            "prompts": PROMPTS,
            "rewards": Rewards({"bright": "1"}, bright, 4),
            "model": str(model),
            "revision": None,
            "seed": 0,
            "device": "cpu",
            "threads": 1,
        }
        arguments |= {name: given.pop(name) for name in list(given) if name in arguments}
        identity, observer = given.pop("model_identity", arguments["model"]), given.pop("observer", None)
        online = {
            "steps": 4,
            "guidance": 2.0,
            "images_per_prompt": 2,
            "prompts_per_round": 2,
            "baseline_size": 2,
        }
        online |= {name: given.pop(name) for name in list(given) if name in OnlineSettings.model_fields}
        settings = TrainSettings(
            **{
                "method": "ddpo",
                "rounds": 2,
                "global_batch": 2,
                "batch_size": 4,
                "rank": 4,
                "warmup_steps": 0,
                "learning_rate": 1e-3,
                **given,
            }
        )
        places = {"model_identity": identity, "out": tmp_path / out, **arguments}
        return train_online(OnlineInputs(settings, OnlineSettings(**online), **places), observer)

    return call
