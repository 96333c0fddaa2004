"""HPSv3 as a reward: its model lives in a process of its own, with that process's libraries and memory."""

import base64
import io
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from PIL.Image import Image as Picture

from rpo_cli.children import Child, begin, end
from rpo_cli.errors import RpoError
from rpo_cli.protocols import Weights
from rpo_cli.records import canonical_json
from rpo_cli.templates import disarm

WORKER = Path(__file__).with_name("hpsv3_worker.py")
HINT = (
    "the folder must be made as `--reward hpsv3=MizzenAI/HPSv3` says, and the Python (score.python) must "
    "have torch, transformers >= 5.16, safetensors and pillow"
)


class HpsV3Reward:
    """HPSv3: the mean that a Qwen2-VL with a reward head gives; unbounded, asked for on a scale of 0 to 10.

    `score.python` names the Python of another environment; without it, it is the one that runs rpo. The
    process sees nothing of PYTHONPATH, and ends with ours, whatever ends that.

    Source: Ma et al. 2025, arXiv:2508.03789; https://github.com/MizzenAI/HPSv3
    """

    def __init__(
        self,
        weights: Weights,
        *,
        python: str | None = None,
    ) -> None:
        self._arguments = [weights.model, weights.revision or "", weights.device, weights.dtype]
        self._python = python or sys.executable
        self._child: Child | None = None
        self._words: IO[bytes] | None = None
        self.environment: str | None = None  # of the process that scores, once there is one

    def setup(self) -> None:
        """Start the process and wait until its model is loaded.

        Raises:
            RpoError: it cannot be started, or ends; with its last words.
        """
        self._words = tempfile.TemporaryFile()  # noqa: SIM115, to `close`
        command = [self._python, "-I", str(WORKER), *self._arguments]
        self._child = begin(command, self._words, answers=True, hint="check score.python")
        self.environment = canonical_json(self._answer())

    def close(self) -> None:
        """End the process; safe to call twice."""
        if self._child is not None:
            end([self._child], grace=0.0)
            self._child = None
        if self._words is not None:
            self._words.close()

    def score(self, prompts: Sequence[str], images: Sequence[Picture]) -> list[float]:
        return [mean for mean, _ in self.spread(prompts, images)]

    def spread(self, prompts: Sequence[str], images: Sequence[Picture]) -> list[tuple[float, float]]:
        """(mean, standard deviation) of the score of each row, as the model has it.

        Raises:
            RpoError: the process ended.
        """
        said = self._ask({"prompts": [*map(disarm, prompts)], "images": [*map(_png, images)]})
        return [(float(mean), float(deviation)) for mean, deviation in said]

    def cut(self, prompts: Sequence[str]) -> list[bool]:
        return [bool(found) for found in self._ask({"prompts": [*map(disarm, prompts)]})]

    def _ask(self, asked: dict[str, Any]) -> list[Any]:
        assert self._child is not None, "setup() comes first"
        self._child.write(json.dumps(asked).encode() + b"\n")
        found: list[Any] = self._answer()
        return found

    def _answer(self) -> Any:
        assert self._child is not None
        if not (line := self._child.line()):
            code, last = self._child.process.wait(), self._child.last_words() or "it said nothing"
            raise RpoError(f"hpsv3: its process ended with {code}: {last}", HINT)
        return json.loads(line)


def _png(picture: Picture) -> str:
    buffer = io.BytesIO()
    picture.convert("RGB").save(buffer, "PNG", compress_level=1)
    return base64.b64encode(buffer.getvalue()).decode()
