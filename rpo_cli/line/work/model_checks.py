"""What is refused of a model before it loads: settings, classes, packages, licences."""

import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from rpo_cli import installing
from rpo_cli.adapters import adapter_file, held, scaling_config
from rpo_cli.config import TrainSettings
from rpo_cli.errors import MissingDependency, UsageError
from rpo_cli.hashes import file_hashes
from rpo_cli.identity import COMMIT, CONFIGS, ModelIdentity
from rpo_cli.line.imports.sources import generates, import_groups
from rpo_cli.line.session import Line
from rpo_cli.line.work.critics import (
    SERVED,
    required,
)
from rpo_cli.line.work.models import (
    ONE_STEP,
    OPTIONAL,
    Chosen,
    editor,
    generator,
    left_over,
    pipeline_index,
)
from rpo_cli.model_files import DENOISERS, GET_WHOLE, INDEX, draws_nothing, published, shapes
from rpo_cli.recipes import RECIPES
from rpo_cli.recipes.kinds import CONTROLNET, CONTROLNET_IMG2IMG, SD
from rpo_cli.single_file import single_file

KINDS = {"generate": "generators", "edit": "editors"}


def check_generator(line: Line) -> None:
    """Refuse what the run's generator does not take, and a licence that was not accepted.

    Raises:
        UsageError: the first such thing.
    """
    chosen, s = generator(line), line.settings.generate
    pipeline_index(chosen.models[0])
    _installed(chosen)
    _refuse(line, chosen, "generate")
    if chosen.name == ONE_STEP and s.steps not in (None, 1):
        raise UsageError(f"generate.steps: '{ONE_STEP}' takes one step, not {s.steps}", "leave it out")
    check_models(line, chosen.models[:1], given=DENOISERS if s.denoiser else ())
    check_models(line, chosen.models[1:])
    if s.lora:
        check_lora(line, chosen.models[0], s.lora)


def check_editor(line: Line) -> None:
    """Refuse a model that is no editor, what it does not take, and a licence that was not accepted.

    Raises:
        UsageError: the first such thing.
    """
    chosen, s = editor(line), line.settings.edit
    if chosen.name == SERVED:
        from rpo_cli.backends.servers import endpoints

        endpoints(s.editor_url, s.key_variable, section="edit", name="editor_url")
    else:
        _edits(chosen, s.controlnet)
    _installed(chosen)
    _refuse(line, chosen, "edit")
    check_models(line, chosen.models[:1], given=("controlnet",) if s.controlnet else ())
    check_models(line, chosen.models[1:])


def _edits(chosen: Chosen, controlnet: str | None) -> None:
    model = chosen.models[0]
    pipeline = pipeline_index(model).get("_class_name")
    if pipeline is None:
        return  # what is wrong with such a folder its loader tells best
    served = chosen.recipe.pipelines
    if pipeline == SD and controlnet is None:
        raise UsageError(
            f"edit.editor: {model.ref} is a {pipeline}, which draws pictures and edits none by itself",
            "give an editor, or a ControlNet beside it: --controlnet lllyasviel/control_v11e_sd15_ip2p",
        )
    if served and pipeline not in served and not _is_composed_of(chosen, pipeline):
        known = sorted({name for found in RECIPES["editors"].values() for name in found.pipelines})
        raise UsageError(
            f"edit.editor: {model.ref} is a {pipeline}, but '{chosen.name}' takes {', '.join(served)}",
            f"--backend auto takes what the model's own files say; editors are: {', '.join(known)}",
        )


def _installed(chosen: Chosen) -> None:
    missing = [name for name in chosen.recipe.needs if find_spec(name) is None]
    if missing:
        raise MissingDependency(
            f"the backend '{chosen.name}' needs {', '.join(missing)}",
            f"{installing.package(*missing)} (a release for your torch: `rpo doctor`); see `rpo list`",
        )


def _is_composed_of(chosen: Chosen, pipeline: str) -> bool:
    """Whether a ControlNet editor is put together from this pipeline's parts."""
    return "controlnet" in chosen.recipe.takes and pipeline in (SD, CONTROLNET, CONTROLNET_IMG2IMG)


def _refuse(line: Line, chosen: Chosen, section: Literal["generate", "edit"]) -> None:
    """Settings that mean nothing to the model: those of an earlier command are only told."""
    left, settings = left_over(line, section, chosen.recipe), getattr(line.settings, section)
    for name in OPTIONAL[section]:
        value = getattr(settings, name)
        if value is None or chosen.recipe.accepts(name):
            continue
        told = f"{section}.{name}: '{chosen.name}' ({chosen.models[0].ref}) takes none"
        if name not in left:
            raise UsageError(
                f"{told}, not {value!r}",
                f"leave out {section}.{name}; `rpo list {KINDS[section]}` says what each takes",
            )
        line.observer.note(f"{told}; {value!r} of an earlier command is left out")


def check_models(line: Line, models: Sequence[ModelIdentity], given: Collection[str] = ()) -> None:
    """Refuse models whose folders lack parts or whose licence was not accepted; tell of the others.

    Args:
        given: parts that come from elsewhere.

    Raises:
        UsageError: names what is lacking, or the licence.
    """
    for model in models:
        _files(line, model, given)
    check_licences(line, models)


def _files(line: Line, model: ModelIdentity, given: Collection[str]) -> None:
    if model.kind == "file" and model.folder is not None:
        line.say(f"{model.ref}: a single file, configured as {single_file(model.ref).source}")
    place = Path(model.ref) if model.kind == "folder" else cached(model) if model.kind == "hub" else None
    if place is None:
        return
    found, whole = published(place), model.kind == "folder"  # of a hub's id only what is cached is seen
    if lacking := [name for name in found.lacking if whole and name not in given]:
        raise UsageError(
            f"{model.ref}: its {INDEX} names {', '.join(lacking)}, and the folder has none",
            "download the model again, whole",
        )
    if needed := [name for name in found.needed if name not in given]:
        raise UsageError(f"{model.ref}: {draws_nothing(needed)}", GET_WHOLE)
    for text in found.remarks() if whole else found.remarks()[: 1 if found.variants else 0]:
        line.say(f"{model.ref}: {text}")


def check_lora(line: Line, model: ModelIdentity, ref: str) -> None:
    """Refuse a local LoRA of which nothing is for the model, as far as names and shapes on disk tell it.

    What diffusers first has to translate is refused when it loads.

    Raises:
        UsageError: tells the prefixes seen and wanted, or whose shapes differ.
    """
    folder = model.folder if model.kind == "folder" else cached(model) if model.kind == "hub" else None
    if not Path(ref).exists():
        return
    file = adapter_file(ref)
    layers = held(file)
    scaling_config(file)
    others = len(list(Path(ref).glob("*.safetensors"))) - 1
    if others > 0:
        line.say(f"{ref}: {file.name} is the LoRA; {others} other .safetensors of the folder are not read")
    modules = _modules(folder) if folder is not None else {}
    if not any(name in modules for name in DENOISERS):
        return  # nothing here tells the layers
    from rpo_cli.backends.lora_names import refuse_foreign

    refuse_foreign(ref, layers, modules, model.ref)


def _modules(folder: Path) -> dict[str, dict[str, tuple[int, ...]]]:
    """Layers of a pipeline's denoiser and text encoders by the headers of its weights."""
    found: dict[str, dict[str, tuple[int, ...]]] = {}
    for part in (*DENOISERS, "text_encoder", "text_encoder_2"):
        for path in sorted((folder / part).glob("*.safetensors")):
            try:
                held = shapes(path)
            except (OSError, ValueError):
                return {}  # its loader tells best what is wrong
            layers = {name.removesuffix(".weight"): shape for name, shape in held.items() if len(shape) > 1}
            found.setdefault(part, {}).update(layers)
    return found


def check_licences(line: Line, models: Sequence[ModelIdentity]) -> None:
    """Refuse weights that are known to forbid commercial use, unless the user has said a word.

    Raises:
        UsageError: names them and their licences.
    """
    from rpo_cli.exchange.card import forbids_commerce, model_licence

    if line.settings.run.accept_license:
        return
    found = {model.ref: model_licence(model.ref) for model in models if model.kind != "function"}
    forbidding = [f"{ref} ({license})" for ref, license in found.items() if forbids_commerce(license)]
    if forbidding:
        raise UsageError(
            f"a licence forbids commercial use: {', '.join(forbidding)}",
            "read it; if your use keeps to it, pass --accept-license",
        )


def check_model(line: Line, ref: str | None, setting: str, revision: str | None) -> None:
    check_models(line, [line.identity(required(ref, setting), revision)])


def whole_folder(model: ModelIdentity, setting: str) -> ModelIdentity:
    """A model that transformers loads, which takes no single file."""
    if model.kind == "file":
        raise UsageError(
            f"{setting}: {model.ref} is a file, not a model folder",
            "give the folder with config.json that it belongs to",
        )
    return model


def check_fits(line: Line, role: str, models: Callable[[], Sequence[ModelIdentity]]) -> None:
    """A critic, editor or reward beside the pictures of the run."""
    if line.settings.run.mix or (generates(line) and line.settings.generate.generator is None):
        return
    check_worlds(line, role, models(), generator(line).models if generates(line) else ())


def check_scheduler(name: str) -> None:
    from rpo_cli.backends.loading import scheduler_named

    scheduler_named(name)


def cached(model: ModelIdentity) -> Path | None:
    """The folder of the hub's local cache that holds this commit; None where it holds none."""
    from huggingface_hub import try_to_load_from_cache

    if not COMMIT.fullmatch(model.revision):
        return None
    for name in CONFIGS:
        place = try_to_load_from_cache(model.ref, name, revision=model.revision)
        if isinstance(place, str):
            return Path(place).parent
    return None


TABLES = {"shapes": Path(__file__).parents[2] / "shapes" / "manifest.json"}  # world → its weights


LOADED = ("folder", "file", "hub")


HINT = "name models that fit each other, or pass --mix if that is meant"


@cache
def known_weights() -> dict[str, str]:
    """SHA-256 of a weight file → the world of its model."""
    return {
        entry["sha256"]: world
        for world, table in TABLES.items()
        for entry in json.loads(table.read_text(encoding="utf-8")).values()
    }


@cache
def world_of(model: ModelIdentity) -> str | None:
    """The world of a model; None for all that are not embedded."""
    if model.kind != "folder":
        return None
    with file_hashes() as hashes:
        found = (
            known_weights().get(hashes.of(path)) for path in sorted(Path(model.ref).rglob("*.safetensors"))
        )
        return next((world for world in found if world is not None), None)


def check_worlds(
    line: Line, role: str, models: Sequence[ModelIdentity], drawn: Sequence[ModelIdentity]
) -> None:
    """Refuse judges and editors of one world beside pictures of another, unless `run.mix` allows it.

    Args:
        role: the setting that names `models`.
        drawn: the generator and its adapters.

    Raises:
        UsageError: names both.
    """
    told = [model for model in models if model.kind in LOADED]  # of others nothing is known
    if line.settings.run.mix or not told:
        return
    world = _world(told)
    if import_groups(line) and world is not None:
        line.say(
            f"{role}: {told[0].ref} learned a closed world ({world}), and imported pictures are of another"
        )
    if generates(line):
        refuse_worlds(line, role, models, drawn)


def refuse_worlds(
    line: Line, role: str, models: Sequence[ModelIdentity], drawn: Sequence[ModelIdentity]
) -> None:
    """The same where pictures are drawn for certain.

    Raises:
        UsageError: names both.
    """
    told = [model for model in models if model.kind in LOADED]
    if line.settings.run.mix or not told:
        return
    world, drawing = _world(told), _world(drawn)
    if world != drawing:
        raise UsageError(f"{role}: {''.join(_clash(told[0], world, drawn[0], drawing))}", HINT)


def _world(models: Sequence[ModelIdentity]) -> str | None:
    return next((world for world in map(world_of, models) if world is not None), None)


def _clash(
    judge: ModelIdentity, known: str | None, drawer: ModelIdentity, drawn: str | None
) -> Iterator[str]:
    if known is not None:
        yield f"{judge.ref} is an embedded model that knows the world of {known} only"
        yield f", and {drawer.ref} draws another"
    else:
        yield f"{drawer.ref} draws the closed world of {drawn}, which {judge.ref} has not learned"


FEW_PAIRS = 50


MANY_USES = 20


TOLD = 8  # words


WORD = re.compile(r"[a-z]+|[^a-z\s]+")


def warn_of_words(line: Line, model: ModelIdentity, prompts: Iterable[str]) -> None:
    """Say which words of the prompts an embedded generator has never learned; nothing of other models."""
    known = _vocabulary(model.ref) if world_of(model) is not None else None
    if known is None:
        return
    strange = [
        [word for word in WORD.findall(text.lower()) if f"{word}</w>" not in known] for text in prompts
    ]
    words = list(dict.fromkeys(word for found in strange for word in found))
    if words:
        more = f" and {len(words) - TOLD:,} more" if len(words) > TOLD else ""
        line.say(
            f"{sum(map(bool, strange)):,} of {len(strange):,} prompts have words that {model.ref} does not "
            f"know, a model of a closed world: {', '.join(words[:TOLD])}{more}"
        )


@cache
def _vocabulary(model: str) -> frozenset[str] | None:
    """Tokens of the model's own tokenizer, in which each word that it has learned is one."""
    try:
        found = json.loads(Path(model, "tokenizer", "tokenizer.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return frozenset(found["model"]["vocab"])


def warn_of_pairs(line: Line, settings: TrainSettings, pairs: int | None) -> None:
    """Say that a training has few pairs, or sees each of them many times."""
    for text in _few(settings, pairs or 0):
        line.say(text)


def _few(settings: TrainSettings, pairs: int) -> Iterator[str]:
    if not pairs > 0:
        return
    if pairs < FEW_PAIRS:
        yield f"training on {pairs:,} pairs: fewer than {FEW_PAIRS} teach these pairs, not a preference"
    uses = settings.steps * settings.global_batch / pairs
    if uses > MANY_USES:
        yield (
            f"each pair is used {uses:.0f} times ({settings.steps:,} steps of {settings.global_batch:,} on "
            f"{pairs:,} pairs): more than {MANY_USES} overfit; fewer --steps, or more pairs"
        )
