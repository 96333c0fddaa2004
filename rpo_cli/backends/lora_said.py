"""What is said of a LoRA that is not, or not wholly, of a model."""

from collections.abc import Sequence

from rpo_cli.backends.lora_names import WANTED, Matched, prefixes
from rpo_cli.errors import UsageError

FIRST = 3  # names that are told


def refuse(ref: str, matched: Matched, model: str) -> None:
    """Refuse a LoRA of which nothing is for the model, or whose layers are of other sizes.

    Raises:
        UsageError: tells the prefixes seen and wanted, or the layer.
    """
    if matched.unlike:
        count = len(matched.unlike)
        raise UsageError(
            f"{ref}: {count} of its {matched.layers} layers {_have(count)} another shape than in {model}, "
            f"e.g. {matched.unlike[0]}",
            "it was made for another model: give one of this model",
        )
    if matched.found:
        return
    if not matched.layers:
        raise UsageError(
            f"{ref}: holds no layer of a LoRA (first tensor: {next(iter(matched.loose), 'none')})",
            "give a LoRA's file or folder",
        )
    if matched.unread:
        raise UsageError(
            f"{ref}: nothing of it can be read: {_kinds(matched)}", "give a plain LoRA (lora_A and lora_B)"
        )
    seen = ", ".join(prefixes(matched.unknown))
    raise UsageError(
        f"{ref}: none of its {matched.layers} layers is one of {model}: names begin with {seen}",
        f"wanted are names of the model's layers behind {WANTED} or no prefix; it may be another model's",
    )


def note_of(ref: str, matched: Matched, idle: int = 0) -> list[str]:
    """A sentence with both counts where not all of the file was read, else none.

    Args:
        idle: layers among those found that add nothing.
    """
    parts = []
    if matched.unknown:
        parts.append(f"this model has no {_listed(matched.unknown)}")
    if matched.unread:
        parts.append(f"not read: {_kinds(matched)}")
    if matched.loose:
        tensors = "1 tensor" if len(matched.loose) == 1 else f"{len(matched.loose)} tensors"
        parts.append(f"{tensors} of no layer: {_listed(matched.loose)}")
    if idle:
        parts.append(f"{idle} of them {'adds' if idle == 1 else 'add'} nothing (a factor or alpha of 0)")
    if not parts:
        return []
    used = f"{len(matched.found)} of {matched.layers} layers of this LoRA are used"
    return [f"{ref}: {used}; {'; '.join(parts)}"]


def _kinds(matched: Matched) -> str:
    counted = sorted(matched.unread.items())
    return ", ".join(f"{count} layer{'s' * (count != 1)} of {kind}" for kind, count in counted)


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - FIRST} more" if len(names) > FIRST else ""
    return ", ".join(names[:FIRST]) + more


def _have(count: int) -> str:
    return "has" if count == 1 else "have"
