"""What is refused of a model before it loads: settings, classes, packages, licences."""

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Literal

from rpo_cli import installing
from rpo_cli.errors import MissingDependency, UsageError
from rpo_cli.identity import ModelIdentity
from rpo_cli.line.context import Line
from rpo_cli.line.critics import SERVED
from rpo_cli.line.models import ONE_STEP, OPTIONAL, Chosen, editor, generator, left_over, pipeline_index
from rpo_cli.recipes import RECIPES
from rpo_cli.recipes.kinds import CONTROLNET, CONTROLNET_IMG2IMG, SD

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
    check_licences(line, chosen.models)


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
    check_licences(line, chosen.models)


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
    if served and pipeline not in served and not _made_of(chosen, pipeline):
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


def _made_of(chosen: Chosen, pipeline: str) -> bool:
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


def check_licences(line: Line, models: Sequence[ModelIdentity]) -> None:
    """Refuse weights that are known to forbid commercial use, unless the user has said a word.

    Raises:
        UsageError: names them and their licences.
    """
    from rpo_cli.exchange.licences import forbids_commerce, model_licence

    if line.settings.run.accept_license:
        return
    found = {model.ref: model_licence(model.ref) for model in models if model.kind != "function"}
    forbidding = [f"{ref} ({license})" for ref, license in found.items() if forbids_commerce(license)]
    if forbidding:
        raise UsageError(
            f"a licence forbids commercial use: {', '.join(forbidding)}",
            "read it; if your use keeps to it, pass --accept-license",
        )
