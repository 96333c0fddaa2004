"""A reward that is a function of the user's own: `score.functions`, which no run directory can name."""

from collections.abc import Sequence
from importlib import import_module
from typing import Any

import numpy as np
from PIL.Image import Image as Picture

from rpo_cli.compute import is_out_of_memory
from rpo_cli.errors import RpoError
from rpo_cli.protocols import Weights


class FunctionReward:
    """`module:function` of (prompts, pictures), lists of one length → as many numbers; higher is better.

    Source: the user's own.
    """

    def __init__(self, weights: Weights) -> None:
        self._place = weights.model
        self._function: Any = None

    def setup(self) -> None:
        """Import the module, which runs its code.

        Raises:
            RpoError: no such module or no such function.
        """
        module, _, name = self._place.partition(":")
        try:
            self._function = getattr(import_module(module), name)
        except (Exception, SystemExit) as error:  # whatever the user's own module raises
            told = str(error) if isinstance(error, ImportError | AttributeError) else _error_line(error)
            raise RpoError(
                f"score.functions: {self._place}: cannot be imported: {told}",
                "install its package, or put its folder on PYTHONPATH",
            ) from error

    def score(self, prompts: Sequence[str], images: Sequence[Picture]) -> list[float]:
        """What the function says; each picture is a copy, so that changing it changes nothing else.

        Raises:
            RpoError: it raises, or gives something else than one number for each row.
        """
        copies = [image.convert("RGB").copy() for image in images]
        try:
            given = self._function(list(prompts), copies)
        except (Exception, SystemExit) as error:  # the user's own: whatever it raises
            if is_out_of_memory(error):
                raise  # a smaller batch may fit
            raise RpoError(
                f"score.functions: {self._place} raised {_error_line(error)}",
                "mend the function; RPO_DEBUG=1 shows its traceback",
            ) from error
        try:
            found = np.asarray(given, dtype=np.float64)
            if _words(given):  # which NumPy would read as numbers
                raise TypeError("texts")
        except (TypeError, ValueError, OverflowError) as error:
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


def _error_line(error: BaseException) -> str:
    """Class and first line of what the user's code raised."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__


def _words(given: Any) -> bool:
    """Whether texts stand among what the user's code returned."""
    if isinstance(given, np.ndarray):
        return given.dtype.kind in "US" or (given.dtype.kind == "O" and _words(given.tolist()))
    return isinstance(given, list | tuple) and any(isinstance(item, str | bytes) for item in given)
