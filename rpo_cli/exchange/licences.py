"""Licences of data and models: what their cards declare, and which forbid commercial use."""

import re
from pathlib import Path

import yaml

from rpo_cli.adapters import is_adapter
from rpo_cli.exchange.places import Place
from rpo_cli.single_file import is_single_file, single_file

MAX_CARD = 1_000_000
# known by name, because a hub id has no card at hand: as their cards stated when this was written (those of
# cosxl, FLUX.1 and Qwen2.5-VL-3B from memory); who is missing here is judged by a local folder's card, else
# unknown
NON_COMMERCIAL_MODELS = (
    "black-forest-labs/FLUX.1-dev",
    "black-forest-labs/FLUX.1-Kontext-dev",
    "black-forest-labs/FLUX.2-dev",
    "black-forest-labs/FLUX.2-klein-9B",
    "black-forest-labs/FLUX.2-klein-9b-kv",
    "black-forest-labs/FLUX.2-klein-base-9B",
    "Qwen/Qwen2.5-VL-3B-Instruct",
    "stabilityai/cosxl",
    "stabilityai/sd-turbo",
    "stabilityai/sdxl-turbo",
)
# identifiers of the hub's list, and words of those outside it, that allow no commercial use
_FORBIDS = re.compile(r"(^|[-_ ])(nc|research)([-_ ]|$)|non-?commercial", re.IGNORECASE)


def declared(folder: Place) -> str | None:
    """The `license` in the YAML header of a folder's README.md; `license_name` where that is "other"."""
    card = folder / "README.md"
    if not card.is_file() or card.stat().st_size > MAX_CARD:
        return None
    text = card.read_text(encoding="utf-8", errors="replace")
    if not text.startswith("---\n"):
        return None
    try:
        header = yaml.safe_load(text[4:].partition("\n---")[0])
    except yaml.YAMLError:
        return None
    if not isinstance(header, dict):
        return None
    found = header.get("license")
    named = header.get("license_name") if found in ("other", None) else found
    return str(named or found)[:100] if named or found else None


def forbids_commerce(license: str | None) -> bool:
    """Whether a licence's identifier says that commercial use is not allowed."""
    return bool(license and _FORBIDS.search(license))


def model_licence(ref: str) -> str | None:
    """What a local folder's card declares, or what is known of a hub id; None where nothing is known."""
    known = {name.lower() for name in NON_COMMERCIAL_MODELS}
    if ref.lower() in known:
        return "non-commercial"
    if is_single_file(ref) and not is_adapter(Path(ref)):
        return model_licence(single_file(ref).source)  # of the models that it is one of
    return declared(Path(ref)) if Path(ref).is_dir() else None
