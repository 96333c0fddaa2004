"""A hub's local cache that holds tiny random models under the names of real ones, and a stand-in of vLLM.

So a recipe runs with the flags that it shows: names resolve as they do offline after a download.
"""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from tests.backends import tiny_rewards
from tests.docs.pages import ROOT
from tests.tiny_editors import instruct_pix2pix, save
from tests.train.families.conftest import sd1

COMMIT = "c0ffee" * 6 + "c0ff"
CRITIC = ROOT / "rpo_cli" / "shapes" / "models" / "critic"
# what `python -m vllm.entrypoints.openai.api_server` does, as far as it can be seen from outside
VLLM = """#!{python}
import hashlib, json, os, sys
sys.path.insert(0, {root!r})
from tests import critic_server

def probabilities(body, told=critic_server.probabilities):
    found = told(body)
    share = 0.05 + 0.9 * hashlib.sha256(json.dumps(body["messages"]).encode()).digest()[0] / 255
    import math
    likely = [dict(token="Yes", logprob=math.log(share)), dict(token="no", logprob=math.log(1 - share))]
    found["choices"][0]["logprobs"] = dict(content=[dict(token="Yes", top_logprobs=likely)])
    return found

critic_server.probabilities = probabilities
arguments = sys.argv[1:]
port = int(arguments[arguments.index("--port") + 1])
server = critic_server.Server(port=port, key=os.environ["VLLM_API_KEY"])
server.models = [arguments[arguments.index("--served-model-name") + 1]]
server.serve_forever(0.02)
"""


def fill(cache: Path) -> None:
    """Put every model of the main recipe into a hub's cache."""
    _put(cache, "stable-diffusion-v1-5/stable-diffusion-v1-5", lambda place: save(sd1, place))
    _put(cache, "timbrooks/instruct-pix2pix", lambda place: save(instruct_pix2pix, place))
    _put(cache, "openai/clip-vit-large-patch14", tiny_rewards.clip)
    _put(cache, "Qwen/Qwen3-VL-8B-Instruct", lambda place: str(CRITIC))


def _put(cache: Path, name: str, make: Callable[[Path], str]) -> None:
    place = cache / "made" / name
    place.mkdir(parents=True)
    kept = cache / "hub" / f"models--{name.replace('/', '--')}"
    shutil.copytree(make(place), kept / "snapshots" / COMMIT)
    (kept / "refs").mkdir()
    (kept / "refs" / "main").write_text(COMMIT)


def plant_vllm(python: Path) -> None:
    """A program in the place of the Python that has vLLM."""
    python.parent.mkdir(parents=True)
    python.write_text(VLLM.format(python=sys.executable, root=str(ROOT)))
    python.chmod(0o755)
