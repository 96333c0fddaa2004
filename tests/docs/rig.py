"""A fresh folder for a page: an empty home, `rpo` and `python` on PATH, no hub; its blocks run in order."""

import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from tests.docs.pages import ROOT, Block, Command, blocks

SECONDS = 300
# -P: as for the installed command, the folder it is called in is no place to import from
START = "import sys; sys.path.insert(0, {root!r}); from rpo_cli.cli.app import main; main()"
PROGRAMS = {
    "rpo": f"""#!/bin/sh\nexec '{{python}}' -P -c "{START}" "$@"\n""",
    "python": "#!/bin/sh\nexec '{python}' \"$@\"\n",
}
KEPT = ("PATH", "LANG", "LD_LIBRARY_PATH", "TMPDIR")


@dataclass(frozen=True)
class Ran:
    """Exit code and what stdout and stderr said together."""

    code: int
    said: str


class Rig:
    """Where the blocks of one page run."""

    def __init__(self, folder: Path, hub: Path) -> None:
        self.work, home, programs = folder / "work", folder / "home", folder / "bin"
        for place in (self.work, home, programs):
            place.mkdir()
        for name, text in PROGRAMS.items():
            (programs / name).write_text(text.format(python=sys.executable, root=str(ROOT)))
            (programs / name).chmod(0o755)
        self.seconds: dict[str, float] = {}  # of each command
        kept = {name: os.environ[name] for name in KEPT if name in os.environ}
        self.env = kept | {
            "PATH": f"{programs}:{kept['PATH']}",
            "HOME": str(home),
            "XDG_CACHE_HOME": str(home / "cache"),
            "HF_HOME": str(hub),
            "HF_HUB_OFFLINE": "1",
            "HF_DATASETS_OFFLINE": "1",
            "OMP_NUM_THREADS": "1",
            "COLUMNS": "100",
        }

    def walk(self, page: Path) -> None:
        """Run a page's blocks in order; what each command took is printed."""
        try:
            for block in blocks(page):
                self.run(block)
        finally:
            print("".join(f"{spent:6.1f} s  {what}\n" for what, spent in self.seconds.items()))  # noqa: T201

    def run(self, block: Block) -> None:
        """Run a block, or write its file; a block that needs what is not here is left out."""
        if block.needs:
            return
        if "file" in block.marks:
            place = self.work / block.marks["file"]
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text("\n".join(block.lines) + "\n", encoding="utf-8")
        elif block.language == "console":
            for number, command in enumerate(block.commands()):
                smaller = block.marks.get("smaller", "") if number == 0 else ""
                self._check(block, command, smaller)
        elif block.language == "python":
            ran = self._call([sys.executable, "-c", "\n".join(block.lines)], PYTHONPATH=str(ROOT))
            assert ran.code == 0, f"{block}: exit {ran.code}\n{ran.said}"

    def _check(self, block: Block, command: Command, smaller: str) -> None:
        text = f"{command.text.partition('  #')[0]} {smaller}" if smaller else command.text
        began = time.monotonic()
        ran = self._call(["bash", "-euo", "pipefail", "-c", text])
        self.seconds[f"{block}: {command.text[:60]}"] = time.monotonic() - began
        assert ran.code == command.code, f"{block}: $ {text}\nexit {ran.code}\n{ran.said}"
        missing = [line for line in command.shown if not is_said(line, ran.said)]
        assert not missing, f"{block}: $ {text}\nnot said: {missing}\nbut:\n{ran.said}"

    def _call(self, words: list[str], **more: str) -> Ran:
        done = subprocess.run(
            words,
            cwd=self.work,
            env={**self.env, **more},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=SECONDS,
            check=False,
        )
        return Ran(done.returncode, done.stdout.decode(errors="replace"))


def is_said(shown: str, said: str) -> bool:
    """Whether a line of the output is the one that a page shows; "…" stands for anything."""
    pattern = r".*".join(re.escape(" ".join(part.split())) for part in shown.split("…"))
    pattern = pattern.replace(r"\ ", r"\s+")
    return any(re.fullmatch(rf"\s*{pattern}\s*", line) for line in said.splitlines())
