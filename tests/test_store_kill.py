"""A real process that commits, or commits and compacts, killed at random moments."""

import hashlib
import random
import signal
import subprocess
import sys
import time

import pyarrow.parquet as pq
import pytest

from rpo_cli.records import Image, content_key
from rpo_cli.store import Store, open_store

KILLS = 20
ROWS = 600
# commits the missing rows in an order of its own, so that parts of different lives overlap in their keys
VICTIM = """
import hashlib, random, sys
from rpo_cli.records import Image, ImageData, content_key
from rpo_cli.store import open_store

path, rows, life, compacts = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4] == "compact"
store = open_store(path, create=True)

def row(n):
    data = hashlib.shake_256(str(n).encode()).digest(20_000)
    return Image(
        image_id=content_key(n), prompt_id="", prompt="", index=0, seed=n,
        sha256=hashlib.sha256(data).hexdigest(), width=8, height=8, image=ImageData(bytes=data),
        batch_size=1, settings="", environment="",
    )

missing = [n for n in range(rows) if content_key(n) not in store.keys("images")]
random.Random(life).shuffle(missing)
print("ready", flush=True)
for count, start in enumerate(range(0, len(missing), 2)):
    again = random.Random(start).sample(range(rows), 1)  # a second writer of a row that may be there
    store.commit("images", [row(n) for n in missing[start:start + 2] + again], group="g")
    if compacts and count % 4 == 3:
        store.compact("images")
"""


def live(path, life: int, mode: str, seconds: float | None) -> bool:
    """One life of the victim, killed after `seconds` of work; True when it ended by itself."""
    command = [sys.executable, "-c", VICTIM, str(path), str(ROWS), str(life), mode]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        if seconds is not None:
            time.sleep(seconds)
            process.send_signal(signal.SIGKILL)
        status = process.wait()
    assert status in (0, -signal.SIGKILL)
    return status == 0


def check(store: Store, earlier: set[str]) -> set[str]:
    """Every finished file is readable, every key is met once, no row is lost or changed."""
    for name in store.files.find("images", ".parquet"):
        pq.read_table(store.path(name))
    met = [key for table in store.scan("images", ["image_id"]) for key in table["image_id"].to_pylist()]
    assert len(met) == len(set(met))
    assert earlier <= set(met)
    rows = list(store.fetch("images", met))
    assert {row.key for row in rows} == set(met)
    assert all(isinstance(row, Image) for row in rows)
    assert all(hashlib.sha256(row.image.bytes).hexdigest() == row.sha256 for row in rows)
    return set(met)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["commit", "compact"])
def test_a_store_killed_at_twenty_moments_loses_nothing_and_ends_complete(tmp_path, mode):
    rng = random.Random(mode)
    store = open_store(tmp_path, create=True)
    there: set[str] = set()

    kills, life = 0, 0
    while kills < KILLS:
        life += 1
        if live(tmp_path, life, mode, rng.uniform(0, 0.2)):
            store.prune("images", set())  # it was done before the kill: begin anew
            there = set()
            continue
        kills += 1
        there = check(store, there)
    assert live(tmp_path, life + 1, mode, None)

    assert check(store, there) == {content_key(n) for n in range(ROWS)}
    store.compact("images")
    assert check(store, there) == {content_key(n) for n in range(ROWS)}
    assert len(list(tmp_path.rglob("*.*"))) == 1, "one file: killed writers' leftovers are swept"
