"""`rpo list`: every name that a user can type, or one of them as a block."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from textwrap import wrap
from typing import Annotated, Any

import typer

from rpo_cli import registry, templates
from rpo_cli.cli import options as o
from rpo_cli.cli import step
from rpo_cli.cli.explain import explain, more, parts
from rpo_cli.cli.output import listing, room
from rpo_cli.config import OnlineSettings, TrainSettings
from rpo_cli.errors import UsageError, nearest
from rpo_cli.presets import TABLES, explained
from rpo_cli.presets.facts import facts_of
from rpo_cli.recipes import RECIPES, recipe
from rpo_cli.recipes.rewards import SCORERS, scorer
from rpo_cli.text import printable

KINDS = [*registry.KINDS, "templates"]
GPU = Path("/dev/nvidia0")
SETTINGS = frozenset({*TrainSettings.model_fields, *OnlineSettings.model_fields}) - {"name"}


@dataclass(frozen=True)
class Name:
    kind: str
    name: str
    summary: str
    source: str
    defaults: str = ""
    needs: str = ""
    license: str = ""
    memory: str = ""
    usable: str = ""


def names_of(kind: str) -> list[Name]:
    """The names of a kind with what their own source says about them."""
    if kind == "templates":
        return [Name(kind, style, "critique style", "") for style in templates.styles()]
    if kind == "critics":
        return [*map(_backend, registry.names(kind).items()), *map(_model, registry.critic_models.items())]
    if kind == "rewards":
        return [_reward(*item) for item in registry.names(kind).items()]
    if kind in RECIPES:
        return [_pipeline(kind, *item) for item in registry.names(kind).items()]
    return [
        Name(kind, name, *explain(place), *(_objective(place) if kind == "objectives" else ()))
        for name, place in registry.names(kind).items()
    ]


def _pipeline(kind: str, name: str, place: str) -> Name:
    """An editor or generator: its numbers, the licences of the weights it is known with, what it needs."""
    how = RECIPES[kind].get(name)
    if how is None:  # a third party's
        return Name(kind, name, *explain(place), usable="not known")
    numbers = {"steps": how.steps, "guidance": how.guidance, "image_guidance": how.image_guidance}
    missing = [package for package in how.needs if find_spec(package) is None]
    no_gpu = "" if GPU.exists() else "; no NVIDIA GPU here: slow"
    return Name(
        kind,
        name,
        how.summary,
        how.source,
        ", ".join(f"{key} {value:g}" for key, value in numbers.items() if value is not None),
        license=", ".join(f"{model.ref}: {model.license}" for model in how.models),
        memory=", ".join(f"{model.ref}: {model.memory}" for model in how.models if model.memory),
        usable=f"no: needs {', '.join(missing)}" if missing else f"yes{no_gpu}",
    )


def _reward(name: str, place: str) -> Name:
    """A reward: the weights it is known with, their licences, and what is between them and a score."""
    how = SCORERS.get(name)
    if how is None:  # a third party's
        return Name("rewards", name, *explain(place), usable="not known")
    no_gpu = "" if GPU.exists() else "; no NVIDIA GPU here: slow"
    return Name(
        "rewards",
        name,
        *explain(place),
        license=", ".join(f"{model.ref}: {model.license}" for model in how.models),
        memory=", ".join(f"{model.ref}: {model.memory}" for model in how.models if model.memory),
        usable=f"{how.usable or 'yes'}{no_gpu}",
    )


def _backend(item: tuple[str, str]) -> Name:
    """A way to ask a critic, and what it needs on this machine."""
    name, place = item
    needs = {
        "openai": "with --critic-url",
        "vllm-server": "yes" if find_spec("vllm") else "with --server-python: no vLLM in this Python",
        "vllm": "yes" if find_spec("vllm") else "no: vLLM is not installed in this Python",
    }
    return Name("critics", name, *explain(place), usable=needs.get(name, "yes"))


def _model(item: tuple[str, str]) -> Name:
    """A critic that --critic takes by this name: licence, memory of its weights, whether it runs here."""
    name, place = item
    said = parts(place)
    here = "weights never loaded by our tests" if GPU.exists() else "no: no NVIDIA GPU here"
    memory = f"{said.get('gigabytes', 0)} GB"
    summary, source, license = (str(said.get(key, "")) for key in ("summary", "source", "license"))
    return Name("critics", name, summary, source, license=license, memory=memory, usable=here)


def _objective(place: str) -> tuple[str, str]:
    """The numbers that an objective names, as settings, and what it needs."""
    said = parts(place)
    shown = {"beta": said.get("default_beta")} | {
        name: value for name, value in said.items() if name in SETTINGS
    }
    shown |= dict(said.get("numbers", ()))
    defaults = [
        f"{name} {value:g}" if isinstance(value, int | float) else f"{name} {value}"
        for name, value in shown.items()
        if value is not None
    ]
    return ", ".join(defaults), said.get("needs", "a reference")


LETTERS = (
    "m, r: squared denoising error of policy and reference on the model's own target, the mean over "
    "C, H, W; w, l: winner and loser; E: mean over items; sigma(z) = 1/(1 + exp(-z))"
)
STEPS = (
    "l: log-ratio of one denoising step of a sampled picture, the mean over C, H, W; l_w, l_l: of winner "
    "and loser; E: mean over steps and items; sigma(z) = 1/(1 + exp(-z))"
)
# what a line of the block is called where its key is not the word for it
ITEM_TITLES = {
    "summary": "what it is",
    "more": "",
    "equation": "stands in",
    "open": "may differ",
    "place": "code",
}
INDENT = 14


def item_of(kind: str, name: str) -> dict[str, Any]:
    """All that is known of a name; what is not known is left out.

    Raises:
        UsageError: there is no such name, with the nearest one.
    """
    known = {each.name: each for each in names_of(kind)}
    if name not in known:
        raise UsageError(
            f"'{name}' is not one of the {kind}: {', '.join(known)}{nearest(name, list(known))}",
            f"rpo list {kind}",
        )
    said = asdict(known[name])
    place = registry.names(kind).get(name, "") if kind != "templates" else ""
    place = place or registry.critic_models.get(name, "") if kind == "critics" else place
    details = DETAILS.get(kind, _nothing)(name, place)
    code = registry.code_of(kind, name) if kind in registry.KINDS else {}
    package = " ".join(code[key] for key in ("distribution", "version")) if code else ""
    last = {"source": said.pop("source"), "place": place, "package": package}
    whole = {**said, "more": more(place) if place else "", **details, **last}
    return {key: value for key, value in whole.items() if value not in ("", (), [], {}, None)}


def block(item: dict[str, Any]) -> str:
    """Its lines, a title before each, folded to the terminal; settings and facts of a preset at last."""
    lines = [f"{item['name']} ({item['kind']})"]
    for key, value in item.items():
        if key not in ("kind", "name", "settings", "facts", "notes"):
            title = ITEM_TITLES.get(key, key.replace("_", " "))
            lines += _folded(title, ", ".join(value) if isinstance(value, tuple) else str(value))
    lines += [""] if "settings" in item else []
    for row in item.get("settings", ()):
        lines += _folded("", f"{row['setting']} = {_short(row['value'])}", indent=0)
        origin = f"{row['whose']}: {row['why']}" if row["why"] else row["whose"]
        lines += _folded("", origin, indent=4)
    lines += ["", "what it takes"] if "facts" in item else []
    for fact in item.get("facts", ()):
        lines += _folded("", f"{fact['what']}: {fact['value']}", indent=0)
        lines += _folded("", fact["origin"], indent=4)
    for note in item.get("notes", ()):
        lines += ["", *_folded("", note, indent=0)]
    return "\n".join(lines)


def _folded(title: str, text: str, indent: int = INDENT) -> list[str]:
    """The lines of a text, broken where the terminal ends; the title stands before the first."""
    space = " " * indent
    lines = [
        line
        for paragraph in printable(text).splitlines()
        for line in wrap(  # a path stays whole, so that it can be copied
            paragraph,
            room(),
            initial_indent=space,
            subsequent_indent=space,
            break_on_hyphens=False,
            break_long_words=False,
        )
    ]
    return [title.ljust(indent) + line[indent:] if place == 0 else line for place, line in enumerate(lines)]


def _short(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _nothing(name: str, place: str) -> dict[str, Any]:
    return {}


def _objective_item(name: str, place: str) -> dict[str, Any]:
    said = parts(place)
    beta = said.get("default_beta")
    return {
        "formula": said.get("formula", ""),
        "letters": STEPS if registry.entry("objectives", name).online else LETTERS,
        "equation": said.get("equation", ""),
        "beta": "" if beta is None else f"{beta:g} {said.get('beta_unit', '')}".strip(),
        "open": said.get("open", ()),
    }


def _pipeline_item(kind: str, name: str) -> dict[str, Any]:
    how = recipe(kind, name)
    return {"takes": how.takes, "pipelines": how.pipelines}


def _reward_item(name: str, place: str) -> dict[str, Any]:
    how, compares = scorer(name), registry.entry("rewards", name).pairwise
    pairwise = "compares a picture with another of its prompt" if compares else ""
    return {"framing": how.preprocessing, "pairs": pairwise, "conversion": how.conversion}


def _critic(name: str, place: str) -> dict[str, Any]:
    if name not in registry.critic_models:
        return {}
    said = parts(place)
    return {"model": said.get("ref", ""), "backend": said.get("backend", "vllm-server")}


def _preset(name: str, place: str) -> dict[str, Any]:
    settings = dict(registry.load("presets", name)())
    notes = settings.pop("notes", ())
    rows = [
        {"setting": row.name, "value": row.value, "whose": row.whose, "why": row.why}
        for row in explained(name, settings)
    ]
    # the further notes of a table say what its rows say
    facts = [asdict(fact) for fact in facts_of(name, settings)]
    return {"settings": rows, "facts": facts, "notes": notes[:1] if name in TABLES else notes}


def _template(name: str, place: str) -> dict[str, Any]:
    files = [each for each in templates.names() if each.startswith(f"critique/{name}/")]
    return {"files": tuple(f"{each}.txt" for each in files), "more": "rpo init DIR writes them to edit"}


DETAILS: dict[str, Callable[[str, str], dict[str, Any]]] = {
    "objectives": _objective_item,
    "editors": lambda name, place: _pipeline_item("editors", name),
    "generators": lambda name, place: _pipeline_item("generators", name),
    "rewards": _reward_item,
    "critics": _critic,
    "presets": _preset,
    "templates": _template,
}


# kind → what its table tells beside name and summary; the block tells all
COLUMNS = {
    "objectives": "defaults",
    **dict.fromkeys(("critics", "rewards", "editors", "generators"), "usable"),
}
TITLES = {"defaults": "defaults", "usable": "usable here"}


def list_names(
    context: typer.Context,
    kind: Annotated[
        str | None, typer.Argument(metavar="KIND", help=", ".join(KINDS), show_default=False)
    ] = None,
    name: Annotated[
        str | None,
        typer.Argument(metavar="NAME", help="One of them, with all that is known.", show_default=False),
    ] = None,
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """List generators, critics, editors, rewards, engines, objectives, presets, templates and so on.

    With NAME: one as a block, with formula, settings, licences, sources.

    Example: rpo list objectives dpo
    """
    if kind is not None and kind not in KINDS:
        raise UsageError(f"'{kind}' is no kind{nearest(kind, KINDS)}", f"one of {', '.join(KINDS)}")
    say = step.console(context)
    if kind is not None and name is not None:
        item = item_of(kind, name)
        say.result(item, block(item), essence=str(item.get("place", name)))
        return
    found = [each for one in ([kind] if kind else KINDS) for each in names_of(one)]
    more = COLUMNS.get(kind or "")
    header = ["name", "what it is", *([TITLES[more]] if more else [])]
    rows = [[each.name, each.summary, *([getattr(each, more)] if more else [])] for each in found]
    if kind is None:
        header, rows = ["kind", *header], [[each.kind, *row] for each, row in zip(found, rows, strict=True)]
    text = listing(header, rows, keys=1 if kind else 2)
    say.result(found, text, essence="\n".join(each.name for each in found))
    say.hint(f"one with all that is known of it: rpo list {kind or 'KIND'} NAME")
