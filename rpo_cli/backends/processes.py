"""A server process of ours: known for certain by pid, start time and a token in its environment.

A pid alone is no proof: after `kill -9` of rpo another program may have it. So each server leaves a note
in RUN/logs/, and whoever finds a note of an rpo that is gone ends the server only when all three match.
Linux only (/proc); elsewhere an orphan is left alone and named.
"""

import hashlib
import json
import os
import secrets
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from rpo_cli.errors import RpoError, StorageError

TOKEN = "RPO_SERVER_TOKEN"
NOTE = "server-*.json"
GRACE = 10.0  # seconds between SIGTERM and SIGKILL
PROC = Path("/proc")


@dataclass(frozen=True)
class Note:
    """What RUN/logs/server-<pid>.json says: the server, and the rpo that it belongs to."""

    pid: int
    started: int
    token_sha256: str
    owner: int
    owner_started: int


class Server:
    """A running process, the leader of a session of its own; its output goes to a log file."""

    def __init__(self, process: "subprocess.Popen[bytes]", token: str, note: Path, log: Path) -> None:
        self._process, self._token, self._note, self.log = process, token, note, log

    def running(self) -> bool:
        return self._process.poll() is None

    def last_words(self, lines: int = 5) -> str:
        """The end of the log, for an error."""
        text = self.log.read_bytes()[-4000:].decode("utf-8", "replace") if self.log.exists() else ""
        words = [" ".join(line.split())[:300] for line in text.splitlines() if line.strip()]
        return "\n".join(words[-lines:])

    def stop(self) -> None:
        """End the process and all that it started; safe to call twice."""
        _end(self._process.pid, self._process.poll)
        with suppress(OSError):
            self._note.unlink(missing_ok=True)


def start(
    arguments: Sequence[str], environment: Mapping[str, str], logs: Path, name: str = "server"
) -> Server:
    """Start a server whose output goes to logs/<name>-<time>-<8 random hex digits>.log.

    Raises:
        StorageError: the log cannot be written.
        RpoError: the program cannot be started.
    """
    token = secrets.token_hex(16)
    moment = time.strftime("%Y%m%d-%H%M%S")
    log = logs / f"{name}-{moment}-{secrets.token_hex(4)}.log"
    try:
        logs.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as out:
            process = subprocess.Popen(
                [*arguments],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env={**environment, TOKEN: token},
                start_new_session=True,
            )
    except OSError as error:
        if error.filename in (arguments[0], None):
            raise RpoError(
                f"{arguments[0]}: cannot be started: {error.strerror}", "check its path"
            ) from error
        raise StorageError(f"{logs}: {error.strerror}", "check the disk and the permissions") from error
    note = logs / f"server-{_sha256(token)[:16]}.json"
    told = Note(process.pid, _started(process.pid), _sha256(token), os.getpid(), _started(os.getpid()))
    note.write_text(json.dumps(asdict(told)), encoding="utf-8")
    return Server(process, token, note, log)


def end_orphans(logs: Path) -> list[str]:
    """End the servers whose rpo is gone; returns what was done, one sentence each."""
    done = []
    for place in sorted(logs.glob(NOTE)):
        note = _read(place)
        if note is None or (PROC.is_dir() and _started(note.owner) == note.owner_started):
            continue  # no note of ours, or its rpo is at work
        if not PROC.is_dir():
            done.append(f"a server that an earlier command started may still run: process {note.pid}")
        elif _is_ours(note):
            _end(note.pid, lambda: None)
            done.append(f"ended a server that an earlier command left behind: process {note.pid}")
        with suppress(OSError):
            place.unlink(missing_ok=True)
    return done


def _read(place: Path) -> Note | None:
    try:
        said = json.loads(place.read_text(encoding="utf-8"))
        numbers = [int(said[key]) for key in ("pid", "started", "owner", "owner_started")]
        note = Note(numbers[0], numbers[1], str(said["token_sha256"]), numbers[2], numbers[3])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return note if note.pid > 1 and note.started > 0 else None


def _is_ours(note: Note) -> bool:
    """Pid, start time and token, all three; of a server whose first process is gone, the token of another.

    While a process of a session lives, the kernel gives its leader's pid to nobody else.
    """
    if _started(note.pid):
        return _started(note.pid) == note.started and _token_of(note.pid) == note.token_sha256
    return any(_token_of(pid) == note.token_sha256 for pid in _session(note.pid))


def _started(pid: int) -> int:
    """Start time in clock ticks since boot; 0 when there is no such process (or only its corpse)."""
    try:
        state, *rest = (PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
    except (OSError, ValueError):
        return 0
    return 0 if state in "ZX" else int(rest[18])


def _session_of(pid: int) -> int:
    try:
        return os.getsid(pid)
    except OSError:
        return 0


def _token_of(pid: int) -> str:
    """SHA-256 of the token in a process's environment; "" when it has none or is not ours to read."""
    try:
        pairs = (PROC / str(pid) / "environ").read_bytes().split(b"\0")
    except OSError:
        return ""
    mark = f"{TOKEN}=".encode()
    return next((_sha256(p.removeprefix(mark).decode()) for p in pairs if p.startswith(mark)), "")


def _session(leader: int) -> list[int]:
    """Living processes of the leader's session: the leader and the workers that it started."""
    return [pid for pid in _pids() if _session_of(pid) == leader and _started(pid)]


def _pids() -> Iterator[int]:
    if PROC.is_dir():
        yield from (int(item.name) for item in PROC.iterdir() if item.name.isdecimal())


def _end(leader: int, reap: Callable[[], object]) -> None:
    """SIGTERM to every process of the session, SIGKILL to what is left after GRACE."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        for pid in _session(leader) if PROC.is_dir() else [leader]:
            with suppress(OSError):
                os.kill(pid, number)
        until = time.monotonic() + GRACE
        while time.monotonic() < until:
            reap()
            if not _session(leader):
                return
            time.sleep(0.05)


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
