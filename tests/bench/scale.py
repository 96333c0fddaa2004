"""100,000 synthetic rows of one table: `python -m tests.bench.scale [--rows N]`.

Builds a run whose pictures are all there (random bytes, one prompt for every two), then times real
processes: `rpo status`, and `rpo generate` with nothing left to do, which scans every key.
"""

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rpo_cli import open_line
from rpo_cli.line.work.generate import generate_work, take_prompts
from rpo_cli.pictures import sha256
from rpo_cli.protocols import Task
from rpo_cli.records import Image, ImageData

BYTES_PER_PICTURE = 2_000
ROWS_PER_PART = 64


def build(folder: Path, rows: int) -> Path:
    """A run with `rows` pictures, all of them wanted."""
    model = folder / "model"
    model.mkdir()
    (model / "model_index.json").write_text("{}")
    (model / "weights.safetensors").write_bytes(b"")
    prompts = folder / "prompts.txt"
    prompts.write_text("\n".join(f"a picture of thing {number}" for number in range(rows // 2)))
    line = open_line(folder / "run", {"prompts.file": str(prompts), "generate.generator": str(model)})
    take_prompts(line)
    work = generate_work(line)
    for start in range(0, rows, ROWS_PER_PART):
        batch = [picture(task, work.settings) for task in work.tasks[start : start + ROWS_PER_PART]]
        line.store.commit("images", batch, group=work.group)
    line.record()
    return folder / "run"


def picture(task: Task, settings: str) -> Image:
    want = task.payload
    data = random.Random(task.key).randbytes(BYTES_PER_PICTURE)
    return Image(
        image_id=task.key,
        prompt_id=want.prompt_id,
        prompt=want.prompt,
        index=want.index,
        seed=want.seed,
        sha256=sha256(data),
        width=64,
        height=64,
        image=ImageData(bytes=data),
        batch_size=1,
        settings=settings,
        environment="{}",
    )


def measured(*command: str) -> tuple[float, float, float, str]:
    """Seconds, CPU seconds, peak memory in MB and the first line of stdout of one `rpo` command."""
    rpo = Path(sys.executable).with_name("rpo")
    started = time.monotonic()
    process = subprocess.Popen([rpo, *command], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    out = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    if os.waitstatus_to_exitcode(status) != 0:
        raise SystemExit(f"{' '.join(command)} failed")
    scale = 1e6 if sys.platform == "darwin" else 1e3  # bytes there, kilobytes elsewhere
    seconds = time.monotonic() - started
    return seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / scale, out.splitlines()[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    rows = parser.parse_args().rows
    with tempfile.TemporaryDirectory() as folder:
        started = time.monotonic()
        run = str(build(Path(folder), rows))
        parts = len(list(Path(run, "images").rglob("*.parquet")))
        say(f"{rows:,} pictures in {parts:,} parts, written in {time.monotonic() - started:.1f} s")
        for command in (["status", run], ["generate", run], ["status", run, "--compact"], ["status", run]):
            seconds, cpu, megabytes, first = measured(*command)
            name = " ".join(["rpo", command[0], "RUN", *command[2:]])
            told = first.replace(run, "RUN")
            say(f"{name:<28} {seconds:6.1f} s ({cpu:.1f} s CPU)  {megabytes:6.0f} MB  {told}")


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
