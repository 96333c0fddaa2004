"""A random Stable Diffusion of about 0.1 M weights and small datasets, built from configs alone."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from diffusers import AutoencoderKL, DDPMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from PIL import Image
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from rpo_cli.config import TrainSettings
from rpo_cli.train.composition import TrainInputs
from rpo_cli.train.run import train

SIDE = 16  # pixels; the VAE halves it once


def write_model(folder: Path, prediction_type: str = "epsilon") -> Path:
    torch.manual_seed(0)
    words = [chr(c) for c in range(ord("a"), ord("z") + 1)]
    vocabulary = {word: i for i, word in enumerate([*words, *(f"{w}</w>" for w in words)])}
    vocabulary |= {"<|startoftext|>": len(vocabulary), "<|endoftext|>": len(vocabulary) + 1}
    (folder / "vocabulary").mkdir(parents=True)
    (folder / "vocabulary" / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "vocabulary" / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = CLIPTokenizer.from_pretrained(folder / "vocabulary", model_max_length=16)
    text = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(vocabulary),
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            max_position_embeddings=16,
            bos_token_id=vocabulary["<|startoftext|>"],
            eos_token_id=vocabulary["<|endoftext|>"],
        )
    )
    vae = AutoencoderKL(
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=4,
        latent_channels=4,
    )
    unet = UNet2DConditionModel(
        sample_size=SIDE // 2,
        block_out_channels=(16, 32),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=16,
        attention_head_dim=4,
        norm_num_groups=4,
    )
    pipeline = StableDiffusionPipeline(
        vae=vae,
        text_encoder=text,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=DDPMScheduler(
            prediction_type=prediction_type,
            beta_schedule="scaled_linear",
            steps_offset=1,
            clip_sample=False,
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder / "model")
    return folder / "model"


def picture(seed: int, tint: tuple[int, int, int] | None = None) -> bytes:
    """A noisy PNG, around `tint` when given."""
    rng = np.random.default_rng(seed)
    if tint is None:
        array = rng.integers(0, 256, (SIDE, SIDE, 3))
    else:
        array = np.clip(np.array(tint) + rng.integers(-20, 21, (SIDE, SIDE, 3)), 0, 255)
    buffer = io.BytesIO()
    Image.fromarray(array.astype(np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def write_split(folder: Path, split: str, rows: list[dict]) -> None:
    (folder / "data").mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), folder / "data" / f"{split}-00000.parquet")


def bright_beats_dark(count: int, first_seed: int) -> list[dict]:
    """Pairs whose winner is bright and whose loser is dark: learnable from the picture alone."""
    rows = []
    for index in range(count):
        bright = picture(first_seed + index, (220, 220, 220))
        dark = picture(first_seed + 1000 + index, (30, 30, 30))
        first = index % 2 == 0
        rows.append(
            {
                "jpg_0": bright if first else dark,
                "jpg_1": dark if first else bright,
                "label_0": 1.0 if first else 0.0,
                "label_1": 0.0 if first else 1.0,
                "caption": f"a {'red' if index % 3 else 'blue'} thing",
            }
        )
    return rows


def with_columns(rows: list[dict]) -> list[dict]:
    """The rows with what `rpo build-pairs` says of pairs: rewards, margin, agreement, dispersion."""
    rich = []
    for index, row in enumerate(rows):
        bright, dark = 1.0 + index / 10, -1.0 - index / 10
        first, second = (bright, dark) if row["label_0"] else (dark, bright)
        rich.append(
            row
            | {
                "rewards_0": {"a": first, "b": 2 * first},
                "rewards_1": {"a": second, "b": 2 * second},
                "margin": 0.5 + index / 10,
                "agreement": 1.0 - index / 40,
                "dispersion": 0.2 + index / 20,
            }
        )
    return rich


class Victim:
    """The process of victim.py, and the children that train in it."""

    def __init__(self) -> None:
        command = [sys.executable, str(Path(__file__).with_name("victim.py"))]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def start(self, job: dict) -> int:
        """Returns the child's pid."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        return self.read()

    def wait(self) -> int:
        """Exit code of the child; negative: the signal that ended it."""
        return self.read()

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=60)

    def read(self) -> int:
        """The next answer."""
        assert self._process.stdout is not None
        return int(self._process.stdout.readline())


@pytest.fixture(scope="session")
def victim():
    process = Victim()
    yield process
    process.close()


@pytest.fixture(scope="session")
def tiny() -> SimpleNamespace:
    """The functions of this file, for tests that build their own data."""
    return SimpleNamespace(
        write_model=write_model,
        picture=picture,
        write_split=write_split,
        bright_beats_dark=bright_beats_dark,
        with_columns=with_columns,
        side=SIDE,
    )


@pytest.fixture(scope="session")
def model(tmp_path_factory) -> Path:
    return write_model(tmp_path_factory.mktemp("epsilon"))


@pytest.fixture(scope="session")
def v_model(tmp_path_factory) -> Path:
    return write_model(tmp_path_factory.mktemp("v"), "v_prediction")


@pytest.fixture(scope="session")
def dataset(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("pairs")
    write_split(folder, "train", bright_beats_dark(10, 0))
    write_split(folder, "validation", bright_beats_dark(4, 500))
    return folder


@pytest.fixture(scope="session")
def rich_dataset(tmp_path_factory) -> Path:
    """The same pairs with every column that some objective reads."""
    folder = tmp_path_factory.mktemp("rich")
    write_split(folder, "train", with_columns(bright_beats_dark(10, 0)))
    write_split(folder, "validation", with_columns(bright_beats_dark(4, 500)))
    return folder


@pytest.fixture(scope="session")
def shared_cache(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def run_train(model, dataset, shared_cache, tmp_path):
    """Call `train` on the tiny model; any argument or setting may be given."""

    def call(out: str | Path = "out", **given):
        arguments = {
            "dataset": dataset,
            "model": str(model),
            "revision": None,
            "cache": shared_cache,
            "seed": 0,
            "device": "cpu",
            "threads": 1,
            "embedder": None,
            "start": None,
        }
        arguments |= {name: given.pop(name) for name in list(given) if name in arguments}
        identity, observer = given.pop("model_identity", arguments["model"]), given.pop("observer", None)
        settings = TrainSettings(
            **{
                "steps": 4,
                "global_batch": 4,
                "batch_size": 4,
                "rank": 4,
                "warmup_steps": 0,
                "learning_rate": 1e-3,
                "save_every": 2,
                "validate_every": 2,
                "validation_draws": 8,
                **given,
            }
        )
        inputs = TrainInputs(settings, model_identity=identity, out=tmp_path / out, **arguments)
        return train(inputs, observer)

    return call
