"""A report of 50,000 candidate pairs: `python -m tests.bench.report [--pairs N]`.

Builds a run of drawn pictures and made-up scores, then times `rpo report` in a process of its own and,
where there is a Chromium, how long the first page takes to open.
"""

import argparse
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rpo_cli.records import Edit, Image, Pair, content_key
from rpo_cli.store import open_store
from tests.reviewed import pair_of

PICTURES = 200  # different pairs of pictures: drawing more would only take longer
A_PART = 5_000


def build(run: Path, pairs: int) -> None:
    """A run with so many candidates, two thirds of them accepted."""
    store = open_store(run, create=True)
    store.write_manifest({"preset": "shapes"})
    drawn = [pair_of(number) for number in range(PICTURES)]
    made = rows(drawn, pairs)
    for start in range(0, pairs, A_PART):
        images, edits, found = zip(*(next(made) for _ in range(min(A_PART, pairs - start))), strict=True)
        for table, some in (("images", images), ("edits", edits), ("pairs", found)):
            store.commit(table, some, group="0badcafe")


def rows(drawn: list[tuple[Image, Edit, Pair]], pairs: int) -> Iterator[tuple[Image, Edit, Pair]]:
    rng = random.Random(0)
    for number in range(pairs):
        image, edit, pair = drawn[number % PICTURES]
        about = {"prompt_id": f"p{number // 4}", "prompt": f"prompt {number // 4}"}
        key, edited = content_key("image", number), content_key("edit", number)
        yield (
            image.model_copy(update={**about, "image_id": key}),
            edit.model_copy(update={**about, "edit_id": edited, "image_id": key}),
            pair.model_copy(update={**about, **judged(rng, number), "a_id": key, "b_id": edited}),
        )


def judged(rng: random.Random, number: int) -> dict[str, Any]:
    clip, other = rng.gauss(0.5, 1.5), rng.gauss(0.5, 1.5)
    margin = (clip + other) / 2
    won = "b" if margin > 0 else "a"
    accepted = abs(margin) >= 0.5
    reason = {"b": "edit_won", "a": "reversed"}[won] if accepted else "inside_band"
    return {
        "pair_id": content_key("pair", number),
        "rewards_a": {"clip": 0.0, "other": 0.0},
        "rewards_b": {"clip": clip, "other": other},
        "margins": {"clip": clip, "other": other},
        "margin": margin,
        "verdict": "accepted" if accepted else "dropped",
        "reason": reason,
        "winner": won if accepted else None,
    }


def opened(page: Path) -> float | None:
    """Seconds until Chromium has the page and its pictures in view; None without a Chromium."""
    path = shutil.which("chromium")
    if path is None:
        return None
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        tab = browser.new_page()
        start = time.perf_counter()
        tab.goto(page.as_uri())
        seconds = time.perf_counter() - start
        browser.close()
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=50_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        build(run, options.pairs)
        start = time.perf_counter()
        code = "import sys; from rpo_cli.cli.app import call; sys.exit(call(sys.argv[1:]))"
        subprocess.run([sys.executable, "-c", code, "report", str(run), "--quiet"], check=True)
        seconds, page = time.perf_counter() - start, run / "report" / "index.html"
        whole = sum(file.stat().st_size for file in (run / "report").rglob("*") if file.is_file())
        took, size = opened(page), page.stat().st_size
        sys.stdout.write(
            f"{options.pairs:,} pairs: report in {seconds:.1f} s, {whole / 1e6:.1f} MB in all, "
            f"first page {size / 1e3:.0f} kB, opens in {'?' if took is None else format(took, '.2f')} s\n"
        )


if __name__ == "__main__":
    main()
