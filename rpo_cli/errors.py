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

What libraries and the system raise becomes one of these by tables of `Case`, see `translated`.
"""

import errno
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
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


@dataclass(frozen=True)
class Case:
    """What an exception of a library or of the system becomes.

    Attributes:
        kinds: classes, or "module.Class" names, for which nothing is imported; subclasses are meant too.
        message, hint: with the fields {where}, {why} (its first line), {system} (the system's words for
            its number), {kind} (its class), and further ones of `facts` or of who calls `translated`.
        when: whether it is this one.
    """

    kinds: Sequence[type[Exception] | str]
    message: str
    hint: str
    error: type[RpoError] = RpoError
    when: Callable[[Any], bool] = lambda _: True
    facts: Callable[[Any], dict[str, str]] = lambda _: {}

    def fits(self, error: Exception) -> bool:
        names = {f"{kind.__module__}.{kind.__qualname__}" for kind in type(error).__mro__}
        known = tuple(kind for kind in self.kinds if isinstance(kind, type))
        return (isinstance(error, known) or not names.isdisjoint(self.kinds)) and self.when(error)

    def error_of(self, error: Exception, where: str, facts: dict[str, str]) -> RpoError:
        number = getattr(error, "errno", None)
        fields = {"where": where, "why": first_line(error), "kind": type(error).__name__}
        fields["system"] = str(error) if number is None else os.strerror(number)
        fields |= {**facts, **self.facts(error)}
        return self.error(self.message.format(**fields), self.hint.format(**fields))


def is_of_system(error: OSError) -> bool:
    """Whether it is the system's word; else some library's own error."""
    return error.errno is not None


def case_of(error: Exception, cases: Sequence[Case]) -> Case | None:
    """The first that fits."""
    return next((case for case in cases if case.fits(error)), None)


@contextmanager
def translated(*cases: Case, where: str = "", **facts: str) -> Iterator[None]:
    """Raise the error of ours that the first fitting case makes of what is raised inside.

    Raises:
        RpoError: of the case's own class; what no case fits is raised as it is.
    """
    try:
        yield
    except Exception as error:
        if (case := case_of(error, cases)) is None:
            raise
        raise case.error_of(error, where, facts) from error


def _is_number(number: int, error: OSError) -> bool:
    return error.errno == number


_REASONS = {
    errno.ENOSPC: ("the disk is full", "free some space and run the same command again; nothing is lost"),
    errno.EDQUOT: ("the disk quota is used up", "free some space and run the same command again"),
    errno.EACCES: ("no permission to write", "choose a directory you may write to, or change its mode"),
    errno.EPERM: ("no permission to write", "choose a directory you may write to, or change its mode"),
    errno.EROFS: ("the file system is read-only", "choose another directory"),
    errno.ENOTDIR: ("a part of the path is a file", "choose another directory"),
    errno.EEXIST: (
        "a file stands where a directory is needed",
        "move it away, or choose another directory",
    ),
}


_DISK = (
    *(
        Case([OSError], f"{{where}}: {reason}", hint, StorageError, partial(_is_number, number))
        for number, (reason, hint) in _REASONS.items()
    ),
    Case(
        [OSError],
        "{where}: {system}",
        "see that the disk is sound, then run the same command again: what is committed is whole",
        StorageError,
        is_of_system,
    ),
)


def disk_errors(where: str) -> AbstractContextManager[None]:
    """Turn the errors of a disk into two lines for a person."""
    return translated(*_DISK, where=where)


def first_line(error: Exception) -> str:
    """The first line of what an error, or the server behind it, says; its name where it says nothing."""
    server = str(getattr(error, "server_message", None) or "")[:300]
    lines = (server or str(error)).strip().splitlines()
    return lines[0].strip() if lines else type(error).__name__


def nearest(name: str, names: Sequence[str]) -> str:
    """The text "; did you mean 'x'?" for the closest of `names`, or "" when none is close."""
    close = get_close_matches(name, names, n=1, cutoff=0.6)
    return f"; did you mean '{close[0]}'?" if close else ""
