"""What can go wrong, as a user sees it: one line what and where, one line what now, one exit code.

RpoError                 1   the work failed
├── UsageError           2   a wrong option, setting, name or input file
│   └── SettingsError    2   several wrong settings, reported together
├── MissingDependency    3   something is not installed
├── Spent                1   a limit that the user set for one command is used up
├── RunLocked            1   another process works on this run and stage
├── CorruptImage         1   bytes that are no whole picture of a format that is read and a sane size
│   └── OtherFormat      1   a known format that is not read, or not here
└── StorageError         1   the disk is full, or the run directory cannot be written

Terminated             143   SIGTERM: no error; what is whole is committed on the way out
"""

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any


class RpoError(Exception):
    """A failure that is told in two lines, never with a traceback."""

    exit_code = 1

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __reduce__(self) -> Any:
        """An error of a worker is raised again where the user is; by default the hint would be lost."""
        return _again, (type(self), self.args, self.__dict__)


def _again(kind: type[RpoError], arguments: tuple[Any, ...], state: dict[str, Any]) -> RpoError:
    error = kind.__new__(kind, *arguments)
    error.__dict__.update(state)
    return error


class UsageError(RpoError):
    """The user asked for something that cannot be: the fix is in the command, settings or input."""

    exit_code = 2


class SettingsError(UsageError):
    """Wrong settings, all of them at once."""

    def __init__(self, where: str, problems: Sequence[str], hint: str) -> None:
        noun = "setting" if len(problems) == 1 else "settings"
        lines = "".join(f"\n  {problem}" for problem in problems)
        super().__init__(f"{where}: {len(problems)} wrong {noun}{lines}", hint)
        self.problems = tuple(problems)


class MissingDependency(RpoError):
    """A package or extra is not installed."""

    exit_code = 3


class Spent(RpoError):
    """What the user allowed one command to use is used up; the rest is the next one's."""


class RunLocked(RpoError):
    """Another process holds the lock of this run and stage."""


class CorruptImage(RpoError):
    """The bytes are no picture we read; inside a stage this becomes a reject of one row."""


class OtherFormat(CorruptImage):
    """The bytes are of a format that is known and not read."""


class StorageError(RpoError):
    """A write failed; what was committed before it is whole."""


class Terminated(BaseException):
    """SIGTERM came. Like KeyboardInterrupt no `except Exception` may swallow it; `finally` commits."""

    exit_code = 143


def nearest(name: str, names: Sequence[str]) -> str:
    """The text "; did you mean 'x'?" for the closest of `names`, or "" when none is close."""
    close = get_close_matches(name, names, n=1, cutoff=0.6)
    return f"; did you mean '{close[0]}'?" if close else ""
