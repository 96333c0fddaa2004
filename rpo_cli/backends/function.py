"""A reward that is a function of the user's own: `score.functions`, which no run directory can name."""

from collections.abc import Sequence
from importlib import import_module
from typing import Any

import numpy as np
from PIL.Image import Image as Picture

from rpo_cli.errors import RpoError


class FunctionReward:
    """`module:function` of (prompts, pictures), lists of one length → as many numbers; higher is better.

    Source: the user's own.
    """

    def __init__(
        self,
        model: str,
        *,
        revision: str | None = None,
        device: str = "cpu",
        dtype: str = "float32",
    ) -> None:
        self._place = model
        self._function: Any = None

    def setup(self) -> None:
        """Import the module, which runs its code.

        Raises:
            RpoError: no such module or no such function.
        """
        module, _, name = self._place.partition(":")
        try:
            self._function = getattr(import_module(module), name)
        except (ImportError, AttributeError) as error:
            raise RpoError(
                f"score.functions: {self._place}: cannot be imported: {error}",
                "install its package, or put its folder on PYTHONPATH",
            ) from error

    def score(self, prompts: Sequence[str], images: Sequence[Picture]) -> list[float]:
        """What the function says; each picture is a copy, so that changing it changes nothing else.

        Raises:
            RpoError: it gives something else than one number for each row.
        """
        given = self._function(list(prompts), [image.convert("RGB").copy() for image in images])
        try:
            found = np.asarray(given, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise self._wrong(f"{type(given).__name__}, no numbers") from error
        if found.shape != (len(prompts),):
            raise self._wrong(f"numbers of shape {found.shape} for {len(prompts)} rows")
        scores: list[float] = found.tolist()
        return scores

    def _wrong(self, given: str) -> RpoError:
        return RpoError(
            f"score.functions: {self._place} gave {given}",
            "return a list with one number for each prompt and picture",
        )
