"""What a model of a run weighs, and whether it is here: told offline, from files and tables alone."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from rpo_cli import registry
from rpo_cli.errors import RpoError, UsageError
from rpo_cli.exchange.card import declared, model_licence
from rpo_cli.identity import ModelIdentity, pin_name
from rpo_cli.line.session import Line
from rpo_cli.line.work.critics import SERVED, attribute_of, entry_of, is_function, reward_models
from rpo_cli.line.work.model_checks import cached
from rpo_cli.model_files import numbers
from rpo_cli.recipes import RECIPES
from rpo_cli.recipes.critics import CriticModel
from rpo_cli.recipes.rewards import SCORERS
from rpo_cli.recipes.weights import HUB_MODELS

NOWHERE = "not here"  # the commit of a hub id that nobody has downloaded
UNNAMED = "the server's own"  # a served critic that its server would have to be asked for


@contextmanager
def offline() -> Iterator[None]:
    """No request of the hub's library leaves this process meanwhile."""
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def know_models(line: Line) -> None:
    """Identify the models of a run from what is on this machine; call it within `offline`.

    Raises:
        UsageError: a name that is neither a folder nor a hub id.
    """
    _name_the_servers(line)
    for ref, revision in named(line):
        try:
            line.identity(ref, revision)
        except UsageError:
            raise
        except RpoError:
            line.identities[ref, revision] = ModelIdentity(ref, "hub", NOWHERE, revision)


def named(line: Line) -> Iterator[tuple[str, str | None]]:
    """(folder or hub id, revision) of every model of the settings that is not behind a server."""
    s = line.settings
    if s.generate.generator:
        yield s.generate.generator, s.generate.revision
    yield from ((ref, None) for ref in (s.generate.lora, s.generate.denoiser) if ref)
    if s.critique.critic and s.critique.backend != SERVED:
        yield long_name(s.critique.critic), s.critique.revision
    if s.edit.editor and s.edit.backend != SERVED:
        yield s.edit.editor, s.edit.revision
    yield from ((ref, None) for ref in (s.edit.controlnet, s.train.model, s.train.embedder) if ref)
    for reward, ref in reward_models(line):
        asked = entry_of(reward).template
        if not is_function(reward) and not (asked and s.score.backend == SERVED):
            yield (long_name(ref) if asked else ref), None


def long_name(name: str) -> str:
    """The hub id that a short name of a critic stands for."""
    place = registry.critic_models.get(name)
    return str(attribute_of(place).ref) if place else name


def _name_the_servers(line: Line) -> None:
    """A critic that only its server can name, and that has made no row yet, gets a name that no row has."""
    critique, pinned = line.settings.critique, line.store.read_manifest().get("models", {})
    own = critique.critic and not line.resolved.origins["critique.critic"].startswith("preset ")
    if critique.backend != SERVED or own or pin_name("critique.critic_url", None) in pinned:
        return
    settings = line.settings.model_copy(
        update={"critique": critique.model_copy(update={"critic": UNNAMED})}
    )
    origins = {**line.resolved.origins, "critique.critic": "option"}
    line.resolved = replace(line.resolved, settings=settings, origins=origins)


PACKAGE = Path(__file__).parent.parent
ITEMSIZE = {"float32": 4, "float16": 2, "bfloat16": 2}


@dataclass(frozen=True)
class ModelFacts:
    """One model of a run.

    Attributes:
        here: in a folder or in the hub's cache; None: behind a server, or a function.
        bytes: of its weights on disk, or of the download where they are not here; None: not known.
        memory: bytes of the weights alone, in the dtype of the settings.
    """

    role: str
    ref: str
    here: bool | None
    bytes: int | None
    license: str | None
    memory: int | None


def facts_of(role: str, model: ModelIdentity, dtype: str) -> ModelFacts:
    """What is known of a model without asking anybody."""
    if model.kind in ("served", "function"):
        return ModelFacts(role, model.revision.removeprefix("served:"), None, None, None, None)
    folder = model.folder or cached(model)
    files = sorted(folder.rglob("*.safetensors")) if folder else []
    if model.kind == "file":
        files = [Path(model.ref), *files]
    known = HUB_MODELS.get(model.ref)
    if not files:
        memory = known.memory(ITEMSIZE[dtype]) if known else None
        return ModelFacts(role, model.ref, False, download_of(model.ref), licence_of(model.ref), memory)
    size = sum(path.stat().st_size for path in files)
    count = sum(map(numbers_in, files))
    return ModelFacts(role, model.ref, True, size, licence_of(model.ref, folder), count * ITEMSIZE[dtype])


def numbers_in(file: Path) -> int:
    """Numbers that a safetensors file holds, as it says itself; half its bytes where that is broken."""
    try:
        return numbers(file)
    except (OSError, ValueError):
        return file.stat().st_size // 2


def download_of(ref: str) -> int | None:
    """Bytes that loading a hub id asks for, where a table knows it."""
    if ref in HUB_MODELS:
        return HUB_MODELS[ref].download
    return next((model.gigabytes * 10**9 for model in _critics() if model.ref == ref), None)


def licence_of(ref: str, folder: Path | None = None) -> str | None:
    """As its card declares it, or as a table has it; None: nobody here knows."""
    if Path(ref).is_dir() and Path(ref).resolve().is_relative_to(PACKAGE):
        return "Apache-2.0"  # the embedded models come with this package
    found = model_licence(ref)
    if found is None and folder is not None:
        found = declared(folder)
    if found is None and ref in HUB_MODELS:
        found = HUB_MODELS[ref].license
    return found or next((license for name, license in _licences() if name == ref), None)


def _licences() -> Iterator[tuple[str, str]]:
    known = [model for table in RECIPES.values() for how in table.values() for model in how.models]
    known += [model for how in SCORERS.values() for model in how.models]
    yield from ((model.ref, model.license) for model in known)
    yield from ((model.ref, model.license) for model in _critics())


def _critics() -> Iterator[CriticModel]:
    yield from map(attribute_of, registry.critic_models.values())
