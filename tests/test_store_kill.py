"""A real process that commits and compacts at once, killed at random moments."""

import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from rpo_cli.records import Image, ImageData, content_key
from rpo_cli.store import Store, open_store

KILLS = 24
ROWS = 300


def row(number: int) -> Image:
    data = hashlib.shake_256(str(number).encode()).digest(5_000)
    return Image(
        image_id=content_key(number),
        prompt_id="",
        prompt="",
        index=0,
        seed=number,
        sha256=hashlib.sha256(data).hexdigest(),
        width=8,
        height=8,
        image=ImageData(bytes=data),
        batch_size=1,
        settings="",
        environment="",
    )


def work(path: Path, life: int) -> None:
    """Make what is missing, in an order of its own: parts of different lives overlap in their keys."""
    store = open_store(path, create=True)
    rng, present = random.Random(life), store.keys("images")
    missing = [number for number in range(ROWS) if content_key(number) not in present]
    rng.shuffle(missing)
    for start in range(0, len(missing), 3):
        again = rng.randrange(ROWS)  # a second writer of a row that may be there
        store.commit("images", [row(number) for number in [*missing[start : start + 3], again]], group="g")
        if start % 4 == 0:
            store.compact("images")


def live(path: Path, life: int, seconds: float | None) -> bool:
    """One life of a forked worker, killed after `seconds`; True when it ended by itself."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work(path, life)
            code = 0
        finally:
            os._exit(code)
    if seconds is not None:
        time.sleep(seconds)
        os.kill(pid, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert status in (0, -signal.SIGKILL)
    return status == 0


def check(store: Store, earlier: set[str]) -> set[str]:
    """Every finished file is readable, every key is met once, no row is lost or changed."""
    for name in store.files.find("images", ".parquet"):
        pq.read_table(store.path(name), use_threads=False)
    met = [key for table in store.scan("images", ["image_id"]) for key in table["image_id"].to_pylist()]
    assert len(met) == len(set(met))
    assert earlier <= set(met)
    rows = [found for found in store.fetch("images", met) if isinstance(found, Image)]
    assert {found.key for found in rows} == set(met)
    assert all(hashlib.sha256(found.image.bytes).hexdigest() == found.sha256 for found in rows)
    return set(met)


def torment(path: Path) -> None:
    """Kill KILLS lives after they have committed something; let the last one end; check after each."""
    rng, store, there = random.Random(0), open_store(path, create=True), set[str]()
    kills, life, longest = 0, 0, 0.1
    while kills < KILLS:
        life += 1
        if live(path, life, rng.uniform(0, longest)):
            store.prune("images", set())  # nothing was left to kill: begin anew
            there, longest = set(), longest / 1.2
            continue
        found = check(store, there)
        if len(found) > len(there):
            kills += 1
        else:
            longest *= 1.1  # on this machine a life needs longer
        there = found
    assert live(path, life + 1, None)
    assert check(store, there) == {content_key(number) for number in range(ROWS)}
    store.compact("images")
    assert len(list(path.rglob("*.*"))) == 1, "what killed writers left is swept"


@pytest.mark.slow
def test_a_store_killed_while_it_commits_and_compacts_loses_nothing_and_ends_complete(tmp_path):
    here = Path(__file__).resolve()
    # a process of its own, which imports once and forks the workers: pytest's has other threads
    script = f"import sys; sys.path.insert(0, {str(here.parent)!r}); from {here.stem} import *\n"
    script += f"torment(Path({str(tmp_path)!r}))"

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    keys = open_store(tmp_path, create=True).keys("images")
    assert keys == {content_key(number) for number in range(ROWS)}
