"""Do the tests notice when an important line breaks?  `python -m tests.mutants [--draw N] [--only NAME]`

Each break of lists/ is made in a copy of the tree, one at a time, and only the tests run there that
it names. Exit code 0: every one was noticed; 1: some survived, which are printed; 2: the list is wrong.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from pathlib import Path
from queue import SimpleQueue

from tests.mutants.copies import Copy, Result
from tests.mutants.listed import ROOT, Mutant, drawn, problems, read

WORKERS = 2
ALL_SECONDS = 900  # for all named tests on the tree as it is


def main() -> int:
    chosen, verbose = _chosen()
    if chosen is None:
        return 0
    wrong = list(problems(chosen))
    if wrong or not chosen:
        return _wrong_list(wrong or ["no such break; --list names them all"])
    with tempfile.TemporaryDirectory(prefix="rpo-mutants-") as folder:
        copies: SimpleQueue[Copy] = SimpleQueue()
        for number in range(WORKERS):
            copies.put(Copy.make(Path(folder, str(number))))
        with ThreadPoolExecutor(WORKERS) as pool:
            red = _red_before(pool, copies, chosen)
            if red:
                return _wrong_list([f"fails without any break, so it tells nothing:\n{red}"])
            results = _try_all(pool, copies, chosen, verbose)
    return _told(results)


def _chosen() -> tuple[list[Mutant] | None, bool]:
    """The breaks that the options name, None when they were only to be listed, and whether to tell more."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("--draw", type=int, metavar="N", help="only N of them, by the hash of the commit")
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="only this one")
    parser.add_argument("--list", action="store_true", help="print them and try none")
    parser.add_argument("--verbose", action="store_true", help="print what the tests said to each")
    options = parser.parse_args()
    mutants = [one for one in read() if not options.only or one.name in options.only]
    if options.draw is not None:
        head = ["git", "rev-parse", "HEAD"]
        commit = subprocess.run(head, cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()
        mutants = drawn(mutants, options.draw, commit)
        _say(f"{len(mutants)} drawn by commit {commit[:12]}")
    if options.list:
        for mutant in mutants:
            _say(f"{mutant.file}: {mutant.name}")
        return None, False
    return mutants, options.verbose


def _red_before(pool: ThreadPoolExecutor, copies: "SimpleQueue[Copy]", mutants: Sequence[Mutant]) -> str:
    """The last words of named tests that fail on the tree as it is; "" when all pass."""
    began = time.monotonic()
    named = sorted({test for mutant in mutants for test in mutant.tests})
    files = sorted({test.partition("::")[0] for test in named})
    halves = [set(files[number::WORKERS]) for number in range(WORKERS)]
    shares = [[test for test in named if test.partition("::")[0] in half] for half in halves]

    def run(tests: list[str]) -> str:
        copy = copies.get()
        try:
            code, told = copy.pytest(tests, ALL_SECONDS)
        finally:
            copies.put(copy)
        return "" if code == 0 else told

    red = "\n".join(filter(None, pool.map(run, filter(None, shares))))
    _say(f"{len(named)} tests on the tree as it is: {time.monotonic() - began:.0f} s")
    return red


def _try_all(
    pool: ThreadPoolExecutor, copies: "SimpleQueue[Copy]", mutants: Sequence[Mutant], verbose: bool
) -> list[Result]:
    def try_one(mutant: Mutant) -> Result:
        copy = copies.get()
        try:
            return copy.try_out(mutant)
        finally:
            copies.put(copy)

    results = []
    trials = [pool.submit(try_one, mutant) for mutant in mutants]
    for done in _or_none(pool, as_completed(trials)):
        result = done.result()
        results.append(result)
        name = f"{result.mutant.file}: {result.mutant.name}"
        _say(f"{len(results):3}/{len(mutants)} {result.seconds:5.1f} s  {result.verdict:8}  {name}")
        if verbose or result.verdict == "error":
            _say(result.told)
    return results


def _or_none(pool: ThreadPoolExecutor, trials: Iterator[Future[Result]]) -> Iterator[Future[Result]]:
    """The trials as they end; after Ctrl-C those that have not begun never do."""
    try:
        yield from trials
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        raise


def _told(results: Sequence[Result]) -> int:
    left = [result.mutant for result in results if result.verdict == "SURVIVED"]
    wrong = [result.mutant.name for result in results if result.verdict == "error"]
    for mutant in left:
        _say(f"survived: {mutant.name}\n  {mutant.file}\n  - {mutant.old}\n  + {mutant.new}")
        _say("".join(f"  not noticed by {test}\n" for test in mutant.tests))
    _say(f"{len(results)} breaks, {len(left)} survived")
    return _wrong_list(wrong) if wrong else int(bool(left))


def _wrong_list(wrong: Sequence[str]) -> int:
    for one in wrong:
        _say(f"the list is wrong: {one}")
    return 2


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
