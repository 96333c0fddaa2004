"""Processes that this one starts: how each begins, what it said last, and how it ends with all it started.

Each leads a session of its own: an interrupt at the terminal reaches this process alone, which then ends
it. Most end when their stdin does, so with their parent, however that ended. A server does not. A pid alone
is no proof of one: after `kill -9` of rpo another program may have it. So each server leaves a note in
RUN/logs/, and whoever finds a note of an rpo that is gone ends the server only when pid, start time and a
token in its environment all match. Linux only (/proc); elsewhere an orphan is left alone and named.
"""

import hashlib
import json
import os
import secrets
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from rpo_cli.errors import Case, disk_errors, translated

TOKEN = "RPO_SERVER_TOKEN"
NOTE = "server-*.json"
GRACE = 10.0  # seconds to end by itself
PROC = Path("/proc")
WORDS = 4000  # bytes of a log that its last words are looked for in
# isolated: it imports what this process would, and nothing of the folder that it is started in
PROGRAM = """
import json, sys
sys.path[:] = json.loads(sys.argv.pop(1))
from {module} import {function}
{function}()
"""


def own_command(place: str, *words: str) -> list[str]:
    """The command of a Python that runs a function of ours, "module:function", with `words` in sys.argv."""
    module, _, function = place.partition(":")
    hushed = ["-W", "ignore"] if ("ignore", None, Warning, None, 0) in warnings.filters else []
    program = PROGRAM.format(module=module, function=function)
    return [sys.executable, "-I", *hushed, "-c", program, json.dumps(sys.path), *words]


def other_environment() -> dict[str, str]:
    """This process's environment for another Python, without what is meant for this one alone."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}


@dataclass(frozen=True)
class Child:
    """A process, and where it writes what it says: a file, or none where that is the terminal."""

    process: "subprocess.Popen[bytes]"
    log: Path | IO[bytes] | None = None

    def running(self) -> bool:
        return self.process.poll() is None

    def write(self, data: bytes) -> None:
        """To its stdin; nothing where it has ended: its last words say why."""
        assert self.process.stdin is not None
        with suppress(OSError):
            self.process.stdin.write(data)
            self.process.stdin.flush()

    def line(self) -> bytes:
        """The next line of its stdout, whole; b"" where it has ended before."""
        assert self.process.stdout is not None
        found = self.process.stdout.readline()
        return found if found.endswith(b"\n") else b""

    def last_words(self, lines: int = 1) -> str:
        """The last lines of what it wrote, for an error; "" where it wrote none."""
        if isinstance(self.log, Path):
            data = self.log.read_bytes() if self.log.exists() else b""
        elif self.log is not None:
            self.log.seek(0)
            data = self.log.read()
        else:
            return ""
        text = data[-WORDS:].decode("utf-8", "replace")
        words = [" ".join(line.split())[:300] for line in text.splitlines() if line.strip()]
        return "\n".join(words[-lines:])

    def ending(self) -> str:
        """How it ended: a signal, else what it said last, else its exit code."""
        code = self.process.wait()
        return f"signal {-code}" if code < 0 else self.last_words() or f"exit code {code}"


def begin(
    command: Sequence[str],
    log: Path | IO[bytes] | None = None,
    *,
    environment: Mapping[str, str] | None = None,
    stdin: int = subprocess.PIPE,
    answers: bool = False,
    pipes: Sequence[int] = (),
    hint: str = "check its path",
) -> Child:
    """Start a process.

    Args:
        log: a file, or a path that is appended to, for all that it writes; None: where this process writes.
        answers: its stdout is a pipe, see `Child.line`.
        pipes: descriptors that it inherits.

    Raises:
        StorageError: the log cannot be written.
        RpoError: the program cannot be started.
    """
    if isinstance(log, Path):
        with disk_errors(str(log)):
            log.parent.mkdir(parents=True, exist_ok=True)
            out: IO[bytes] | None = log.open("ab")
    else:
        out = log
    try:
        with translated(Case([OSError], "{where}: cannot be started: {system}", hint), where=command[0]):
            process = subprocess.Popen(
                [*command],
                stdin=stdin,
                stdout=subprocess.PIPE if answers else out,
                stderr=out,
                env=environment,
                pass_fds=pipes,
                start_new_session=True,
            )
    finally:
        if isinstance(log, Path) and out is not None:
            out.close()
    return Child(process, log)


def end(children: Sequence[Child], grace: float = GRACE) -> None:
    """End processes that end when their stdin does; what hangs is killed, and all that it started."""
    for child in children:
        for pipe in (child.process.stdin, child.process.stdout):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()
    until = time.monotonic() + grace
    for child in children:
        try:
            child.process.wait(max(0.0, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            _signal(child.process.pid, signal.SIGKILL)
            child.process.wait()


# --- servers -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Note:
    """What RUN/logs/server-<pid>.json says: the server, and the rpo that it belongs to."""

    pid: int
    started: int
    token_sha256: str
    owner: int
    owner_started: int


@dataclass(frozen=True)
class Server:
    """A server that runs, whose output goes to a log file."""

    child: Child
    note: Path
    log: Path

    def stop(self) -> None:
        """End the process and all that it started; safe to call twice."""
        _end_session(self.child.process.pid, self.child)
        with suppress(OSError):
            self.note.unlink(missing_ok=True)


def serve(
    command: Sequence[str], environment: Mapping[str, str], logs: Path, name: str = "server"
) -> Server:
    """Start a server whose output goes to logs/<name>-<time>-<8 random hex digits>.log; as `begin`."""
    token = secrets.token_hex(16)
    log = logs / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(4)}.log"
    own = {**environment, TOKEN: token}
    child = begin(command, log, environment=own, stdin=subprocess.DEVNULL)
    note, pid = logs / f"server-{_sha256(token)[:16]}.json", child.process.pid
    known = Note(pid, start_of(pid), _sha256(token), os.getpid(), start_of(os.getpid()))
    note.write_text(json.dumps(asdict(known)), encoding="utf-8")
    return Server(child, note, log)


def end_orphans(logs: Path) -> list[str]:
    """End the servers whose rpo is gone; returns what was done, one sentence each."""
    done = []
    for place in sorted(logs.glob(NOTE)):
        note = _read(place)
        if note is None or (PROC.is_dir() and start_of(note.owner) == note.owner_started):
            continue  # no note of ours, or its rpo is at work
        if not PROC.is_dir():
            done.append(f"a server that an earlier command started may still run: process {note.pid}")
        elif _is_ours(note):
            _end_session(note.pid)
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
    if start_of(note.pid):
        return start_of(note.pid) == note.started and _token_of(note.pid) == note.token_sha256
    return any(_token_of(pid) == note.token_sha256 for pid in session_of(note.pid))


def start_of(pid: int) -> int:
    """Start time in clock ticks since boot; 0 when there is no such process (or only its corpse)."""
    try:
        state, *rest = (PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
    except (OSError, ValueError):
        return 0
    return 0 if state in "ZX" else int(rest[18])


def _leader_of(pid: int) -> int:
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


def session_of(leader: int) -> list[int]:
    """Living processes of the leader's session: the leader and the workers that it started."""
    return [pid for pid in _pids() if _leader_of(pid) == leader and start_of(pid)]


def _pids() -> Iterator[int]:
    if PROC.is_dir():
        yield from (int(item.name) for item in PROC.iterdir() if item.name.isdecimal())


def _signal(leader: int, number: int) -> None:
    for pid in session_of(leader) if PROC.is_dir() else [leader]:
        with suppress(OSError):
            os.kill(pid, number)


def _end_session(leader: int, child: Child | None = None) -> None:
    """SIGTERM to every process of the session, SIGKILL to what is left after GRACE."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        _signal(leader, number)
        until = time.monotonic() + GRACE
        while time.monotonic() < until:
            if child is not None:
                child.running()  # or its corpse would stay
            if not session_of(leader):
                return
            time.sleep(0.05)


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
