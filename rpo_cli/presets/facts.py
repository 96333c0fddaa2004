"""What using a preset takes: licences, downloads, memory, disk and hours, each with where it is from."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rpo_cli.presets.kinds import Fact
from rpo_cli.recipes.weights import HUB_MODELS, HubModel

Settings = Mapping[str, Mapping[str, Any]]

ROLES = {
    "generator": ("generate", "generator"),
    "critic": ("critique", "critic"),
    "editor": ("edit", "editor"),
}
ITEMSIZE = {"float32": 4, "float16": 2, "bfloat16": 2}
NOT_KNOWN, NOT_MEASURED = "not known", "not measured"
NOBODY = "none of these weights was run where this was written; `rpo plan RUN` knows a run's own pace"
# a picture as PNG: 1.3 to 1.7 bytes a pixel, of four generated ones of 512x512 in ImageReward's repository
BYTES_PER_PIXEL = 1.5
PNG = "1.5 bytes a pixel, as PNGs of generated pictures have (1.3 to 1.7)"
FLAT = 0.55  # of 24 pictures of the preset shapes
FLAT_PNG = "0.55 bytes a pixel, as 24 of this preset's pictures have"
# bytes on the device, estimated as `rpo train --dry-run` does with the preset's settings, on an empty model
# that has as many parameters as the published weights
DRY_RUN = (
    "an estimate: `rpo train --dry-run` on an empty model whose configuration was not read from the hub; "
    "only its number of parameters was compared"
)
TRAINING = {
    "sd15": 5_640_000_000,
    "paper": 25_200_000_000,
    "sdxl": 13_100_000_000,
    "sd3.5": 14_100_000_000,
    "shapes": 154_000_000,
}


def facts_of(preset: str, settings: Settings) -> list[Fact]:
    """The facts of a preset; what nobody has told or measured says so."""
    named = models(settings)
    if not named:
        return []
    return [
        *_licences(named),
        *_downloads(named),
        *_memory(named, settings),
        Fact("memory: train", _gigabytes(TRAINING[preset]), DRY_RUN)
        if preset in TRAINING
        else Fact("memory: train", NOT_MEASURED, "`rpo train RUN --dry-run` estimates it"),
        _disk(settings),
        Fact("hours", NOT_MEASURED, NOBODY),
    ]


def models(settings: Settings) -> dict[str, str]:
    """Role → model that a preset names, a reward by its own name."""
    found = {
        role: str(settings[section][key])
        for role, (section, key) in ROLES.items()
        if settings.get(section, {}).get(key)
    }
    pairs = (str(item).partition("=") for item in settings.get("score", {}).get("rewards", ()))
    return found | {f"reward {name}": ref for name, _, ref in pairs}


def weights_of(ref: str) -> HubModel | None:
    """What is known of a hub id, or what a local folder holds; None: neither."""
    if ref in HUB_MODELS:
        return HUB_MODELS[ref]
    files = [path.stat().st_size for path in Path(ref).rglob("*.safetensors")]
    if not files:
        return None
    # the embedded models are stored as float16
    return HubModel("Apache-2.0", 0, sum(files) // 2, "comes with this package", 64, "LICENSE")


def _licences(named: Mapping[str, str]) -> Iterator[Fact]:
    for ref in dict.fromkeys(named.values()):
        known = weights_of(ref)
        yield (
            Fact(f"licence of {_short_name(ref)}", known.license, known.licensed)
            if known
            else Fact(f"licence of {_short_name(ref)}", NOT_KNOWN, "read its card")
        )


def _downloads(named: Mapping[str, str]) -> Iterator[Fact]:
    refs = list(dict.fromkeys(named.values()))
    known = {ref: weights_of(ref) for ref in refs}
    for ref, found in known.items():
        if found is None:
            yield Fact(f"download of {_short_name(ref)}", NOT_KNOWN, "see its file list")
        else:
            yield Fact(f"download of {_short_name(ref)}", _gigabytes(found.download), found.source)
    told = [found.download for found in known.values() if found is not None]
    if len(told) == len(refs):
        yield Fact("download in all", _gigabytes(sum(told)), "the sum; each model once")


def _memory(named: Mapping[str, str], settings: Settings) -> Iterator[Fact]:
    for role, ref in named.items():
        section = ROLES.get(role, ("score", ""))[0]
        dtype = str(settings.get(section, {}).get("dtype", "float32"))
        found = weights_of(ref)
        if found is None:
            yield Fact(f"memory: {role}", NOT_KNOWN, "no number of its parameters is at hand")
            continue
        count = (
            f"{found.parameters / 1e9:.3g} billion" if found.parameters > 1e8 else f"{found.parameters:,}"
        )
        origin = f"estimated from weights: {count} parameters in {dtype}; activations come on top"
        yield Fact(f"memory: {role}", _gigabytes(found.memory(ITEMSIZE[dtype])), origin)


def _disk(settings: Settings) -> Fact:
    """Pictures, and edits of every one; the dataset holds those of its pairs again."""
    what = "disk for 1,000 prompts"
    generate, edit = settings.get("generate", {}), settings.get("edit", {})
    known = weights_of(str(generate.get("generator", "")))
    if known is None or known.side is None:
        return Fact(what, "follows from the generator that you name", PNG)
    pictures = 1000 * int(generate.get("images_per_prompt", 2))
    edits = pictures * int(edit.get("edits_per_image", 1)) if edit.get("editor") else 0
    each, told = (BYTES_PER_PIXEL, PNG) if known.download else (FLAT, FLAT_PNG)
    size = round((pictures + edits) * known.side**2 * each)
    origin = (
        f"{pictures:,} pictures and {edits:,} edits, {told}; the dataset holds those of its pairs again"
    )
    return Fact(what, _gigabytes(size), origin)


def _short_name(ref: str) -> str:
    """A hub id, or the last name of a folder."""
    return ref if ref in HUB_MODELS else Path(ref).name if Path(ref).is_dir() else ref


def _gigabytes(count: int) -> str:
    if count == 0:
        return "none"
    return f"{count / 1e9:.3g} GB" if count >= 1e9 else f"{count / 1e6:.3g} MB"
