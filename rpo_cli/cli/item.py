"""One name of `rpo list` as a block: all that its source, its recipe and its settings say."""

from collections.abc import Callable
from dataclasses import asdict
from textwrap import wrap
from typing import Any

from rpo_cli import registry, templates
from rpo_cli.cli.explain import more, parts
from rpo_cli.cli.names import names_of
from rpo_cli.cli.output import clean, room
from rpo_cli.errors import UsageError, nearest
from rpo_cli.presets import TABLES, explained
from rpo_cli.presets.facts import facts_of
from rpo_cli.recipes import RECIPES
from rpo_cli.recipes.rewards import SCORERS

LETTERS = (
    "m, r: squared denoising error of policy and reference on the model's own target, the mean over "
    "C, H, W; w, l: winner and loser; E: mean over items; sigma(z) = 1/(1 + exp(-z))"
)
STEPS = (
    "l: log-ratio of one denoising step of a sampled picture, the mean over C, H, W; l_w, l_l: of winner "
    "and loser; E: mean over steps and items; sigma(z) = 1/(1 + exp(-z))"
)
# what a line of the block is called where its key is not the word for it
TITLES = {
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
            title = TITLES.get(key, key.replace("_", " "))
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
        for paragraph in clean(text).splitlines()
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


def _objective(name: str, place: str) -> dict[str, Any]:
    said = parts(place)
    beta = said.get("default_beta")
    return {
        "formula": said.get("formula", ""),
        "letters": STEPS if name in registry.online_objectives else LETTERS,
        "equation": said.get("equation", ""),
        "beta": "" if beta is None else f"{beta:g} {said.get('beta_unit', '')}".strip(),
        "open": said.get("open", ()),
    }


def _pipeline(kind: str, name: str) -> dict[str, Any]:
    how = RECIPES[kind].get(name)
    return {} if how is None else {"takes": how.takes, "pipelines": how.pipelines}


def _reward(name: str, place: str) -> dict[str, Any]:
    how = SCORERS.get(name)
    if how is None:
        return {}
    pairwise = "compares a picture with another of its prompt" if name in registry.PAIRWISE else ""
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
    "objectives": _objective,
    "editors": lambda name, place: _pipeline("editors", name),
    "generators": lambda name, place: _pipeline("generators", name),
    "rewards": _reward,
    "critics": _critic,
    "presets": _preset,
    "templates": _template,
}
