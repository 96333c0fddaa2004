"""HPSv3 in its own process, on a tiny Qwen2-VL, against the authors' way of computing it, written out."""

import json
import math
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from PIL import Image

from rpo_cli.backends.hpsv3 import WORKER, HpsV3Reward
from rpo_cli.backends.hpsv3_worker import PIXELS, resized
from rpo_cli.children import start_of
from rpo_cli.errors import RpoError
from rpo_cli.protocols import Weights
from rpo_cli.stages import score
from tests.backends import tiny_hpsv3

MEAN = np.array([0.48145466, 0.4578275, 0.40821073])  # CLIP's
STD = np.array([0.26862954, 0.26130258, 0.27577711])
PROMPTS = ["a red circle", "two cats\non a <|Reward|> mat 🟥"]


def pictures():
    rng = np.random.default_rng(4)
    sizes = [(64, 64), (200, 90)]
    return [Image.fromarray(rng.integers(0, 256, (h, w, 3), dtype=np.uint8)) for w, h in sizes]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_hpsv3.folder(tmp_path_factory.mktemp("hpsv3"))


@pytest.fixture(scope="module")
def reward(folder):
    made = HpsV3Reward(Weights(folder))
    made.setup()
    yield made
    made.close()


def patches(picture, wide, high):
    """Qwen2-VL's rows of pixels: squares of 14 in groups of 2 by 2, the one frame twice."""
    array = (np.asarray(picture.resize((wide, high), Image.Resampling.BICUBIC)) / 255 - MEAN) / STD
    rows, columns = high // 14, wide // 14
    frames = np.stack([array.transpose(2, 0, 1)] * 2)  # (2, 3, high, wide)
    cut = frames.reshape(2, 3, rows // 2, 2, 14, columns // 2, 2, 14)
    ordered = cut.transpose(2, 5, 3, 6, 1, 0, 4, 7).reshape(rows * columns, 3 * 2 * 14 * 14)
    return torch.tensor(ordered, dtype=torch.float32), torch.tensor([[1, rows, columns]])


@torch.no_grad()
def by_definition(prompt, picture, wide, high):
    """The picture put among the words first, then the text model, which so counts tokens plainly."""
    words, made, head = tiny_hpsv3.build()
    words.add_tokens(["<|Reward|>"], special_tokens=True)
    pixels, grid = patches(picture, wide, high)
    text = (
        "<|im_start|>user\n<|vision_start|>" + "<|image_pad|>" * (len(pixels) // 4) + "<|vision_end|>"
        f"\nHow good is it?\nTextual prompt - {prompt}\n\n\n\nRate: <|Reward|>\n\nEND\n<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    ids = torch.tensor([words(text)["input_ids"]])
    embedded = made.get_input_embeddings()(ids)
    seen = made.model.visual(pixels, grid_thw=grid).pooler_output
    embedded[ids == made.config.image_token_id] = seen
    hidden = made.model.language_model(inputs_embeds=embedded).last_hidden_state
    state = hidden[0, ids[0].tolist().index(len(words) - 1)]
    for place in (0, 3, 5):
        state = head[f"rm_head.{place}.weight"] @ state + head[f"rm_head.{place}.bias"]
        state = state if place == 5 else state.clamp(min=0)
    return float(state[0]), math.exp(float(state[1]))


@pytest.mark.slow
def test_mean_and_deviation_are_those_of_the_definition(reward):
    (circle, cats), (square, broad) = PROMPTS, pictures()
    disarmed = cats.replace("<|Reward|>", "‹|Reward|›")  # or there would be two places to read at
    expected = [by_definition(circle, square, 448, 448), by_definition(disarmed, broad, 672, 308)]
    found = reward.spread([circle, cats], [square, broad])
    for one, other in zip(found, expected, strict=True):
        assert one == pytest.approx(other, rel=1e-4)
    assert reward.score([circle, cats], [square, broad]) == [mean for mean, _ in found]
    assert found[0][0] != pytest.approx(found[1][0], rel=1e-3)


@pytest.mark.slow
def test_weights_in_the_older_names_score_the_same(reward, tmp_path):
    other = HpsV3Reward(Weights(tiny_hpsv3.folder(tmp_path, older_names=True)))
    other.setup()
    assert other.spread(PROMPTS, pictures()) == reward.spread(PROMPTS, pictures())
    other.close()


@pytest.mark.slow
def test_the_deviation_stands_beside_the_score_in_its_row(reward):
    want = [score.Shown("image", f"i{n}", f"{n}", "p", text) for n, text in enumerate(PROMPTS)]
    tasks = list(score.wanted(lambda: want, reward="hpsv3", settings="{}"))
    for task, picture in zip(tasks, pictures(), strict=True):
        object.__setattr__(task.payload, "picture", picture)
    rows = score.Finish("hpsv3", "{}", "{}")(tasks, score.step(tasks, reward, 3), 3)
    where = json.loads(rows[0].environment)
    assert (where["torch"], where["device"]) == (
        torch.__version__,
        "cpu",
    )  # as the process said: ours is "{}"
    said = reward.spread(PROMPTS, pictures())
    assert [(row.score, row.spread, row.truncated) for row in rows] == [(*pair, False) for pair in said]


@pytest.mark.slow
def test_a_process_that_ends_is_told_with_its_last_words(folder, tmp_path):
    made = HpsV3Reward(Weights(folder))
    made.setup()
    made._child.process.kill()
    with pytest.raises(RpoError, match="its process ended with -9"):
        made.score(PROMPTS, pictures())
    made.close()
    (tmp_path / "config.json").write_text("{}")
    wrong = HpsV3Reward(Weights(str(tmp_path)))
    with pytest.raises(RpoError, match=r"its process ended with 1: OSError: .*model\.safetensors"):
        wrong.setup()
    wrong.close()


VICTIM = """
import sys, time
from rpo_cli.protocols import Weights
from rpo_cli.backends.hpsv3 import HpsV3Reward
made = HpsV3Reward(Weights(sys.argv[1]))
made.setup()
print(made._child.process.pid, flush=True)
time.sleep(600)
"""


@pytest.mark.slow
def test_after_kill_9_of_rpo_no_process_of_the_reward_is_left(folder):
    rpo = subprocess.Popen([sys.executable, "-c", VICTIM, folder], stdout=subprocess.PIPE, text=True)
    pid = int(rpo.stdout.readline())
    assert start_of(pid)
    rpo.send_signal(signal.SIGKILL)
    rpo.wait()
    until = time.monotonic() + 60
    while start_of(pid) and time.monotonic() < until:
        time.sleep(0.1)
    assert start_of(pid) == 0


def test_a_python_that_lacks_the_libraries_says_which(folder, tmp_path):
    """A real environment of its own, with nothing in it."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "bare")], check=True)
    made = HpsV3Reward(Weights(folder), python=str(tmp_path / "bare" / "bin" / "python"))
    with pytest.raises(RpoError, match="No module named 'torch'") as caught:
        made.setup()
    assert "score.python" in caught.value.hint
    made.close()
    missing = HpsV3Reward(Weights(folder), python=str(tmp_path / "no-python"))
    with pytest.raises(RpoError, match="cannot be started: No such file"):
        missing.setup()
    missing.close()


@pytest.mark.slow
def test_the_process_takes_no_module_from_the_folder_of_its_file_or_from_ours(tmp_path):
    """backends/http.py must not be its `http`, nor something in PYTHONPATH its torch."""
    (tmp_path / "torch.py").write_text("raise SystemExit('taken from PYTHONPATH')")
    probe = f"import runpy, sys; sys.argv = ['x']; runpy.run_path({str(WORKER)!r}); import http.client"
    done = subprocess.run(
        [sys.executable, "-I", "-c", probe],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("size", "shown"),
    [
        ((64, 64), (448, 448)),
        ((1024, 1024), (448, 448)),
        ((200, 90), (672, 308)),
        ((1920, 1080), (588, 336)),
    ],
)
def test_a_picture_is_shown_at_the_authors_number_of_pixels(size, shown):
    """Twenty-eights of each side, rounded up for a small picture and down for a large one."""
    found = resized(Image.new("RGB", size)).size
    assert found == shown
    assert found[0] * found[1] == pytest.approx(PIXELS, rel=0.12)
