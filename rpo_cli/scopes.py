"""Whose a setting is, how long it lives, and what falls with what.

run         what the data is: kept by the run that it was given for
training    what is learned from it: kept by the training of that name
command     how it is run: counts for the command that it was given to

A setting whose meaning hangs on another (`HANGS`) counts only beside the value that it was given for: with
another model or method its number falls, and whoever runs the command is told.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

Scope = Literal["run", "training", "command"]
Values = Mapping[str, Any]

TRAINING = ("train", "online", "rounds")  # sections
NAME = "train.name"  # chooses among trainings and is kept by none
# settings that say which program, host or key to trust: a run directory is data and cannot name them
TRUSTING = frozenset(
    f"critique.{key}" for key in ("critic_url", "key_variable", "server_python", "server_args")
) | {"run.accept_license", "score.functions", "score.python", "edit.editor_url", "edit.key_variable"}
# no row and no weight depends on them beyond the last bit; of dtypes all do
COMMAND = (
    TRUSTING
    | {NAME, "run.device", "run.threads", "run.engine", "run.workers", "train.processes"}
    | {f"{section}.batch_size" for section in ("generate", "critique", "edit", "score")}
    | {f"{section}.{key}" for section in ("critique", "edit") for key in ("in_flight", "timeout", "tries")}
    | {"critique.server_seconds", "critique.max_requests", "critique.max_tokens_total"}
)

GENERATOR, CRITIC, EDITOR = "generate.generator", "critique.critic", "edit.editor"
REWARDS, METHOD, MODEL = "score.rewards", "train.method", "train.model"


def _of(section: str, keys: str) -> tuple[str, ...]:
    return tuple(f"{section}.{key}" for key in keys.split())


# the settings that others hang on → those others; of several names the first that has a value counts
HANGS: dict[tuple[str, ...], tuple[str, ...]] = {
    (GENERATOR,): _of(
        "generate",
        "revision backend steps guidance width height scheduler lora denoiser batch_size",
    ),
    ("prompts.file", "prompts.dataset"): _of("prompts", "column encoding delimiter quoting"),
    (CRITIC,): _of("critique", "revision backend max_tokens server_args chat_template_kwargs batch_size"),
    (EDITOR,): _of(
        "edit",
        "revision backend steps guidance image_guidance scheduler controlnet control_scale strength area "
        "batch_size",
    ),
    ("train.full",): _of("train", "learning_rate warmup_steps"),
    (REWARDS,): ("pairs.select_by", "pairs.reward_weights", "online.rewards"),
    (MODEL, GENERATOR): (
        *_of(
            "train",
            "beta beta_from learning_rate warmup_steps caption_dropout flip steps resolution batch_size "
            "timestep_density timestep_shift",
        ),
        *_of("online", "steps guidance"),
    ),
    (METHOD,): (
        *_of(
            "train",
            "beta beta_from link reference_mix reference_every reference_decay ratio_base margin scale "
            "sft_weight label_smoothing soft_labels pair_weight timestep_weight timestep_discount "
            "min_timestep max_timestep group_size list_size temperature divergence divergence_alpha clip "
            "desirable_weight undesirable_weight dro_temperature dro_trim embedder rounds reference_draws",
        ),
        *_of("online", "baseline baseline_size advantage_clip min_margin"),
        *_of("rounds", "images_per_prompt reference min_margin strengths buffer"),
    ),
}
# settings that name rewards: they fall only where a reward of theirs is another one now
NAMING = frozenset({"pairs.select_by", "pairs.reward_weights", "online.rewards"})


def scope_of(name: str) -> Scope:
    """Whose the setting `name` ("section.key") is."""
    if name in COMMAND:
        return "command"
    return "training" if name.partition(".")[0] in TRAINING else "run"


def hangs_on(name: str) -> list[tuple[str, ...]]:
    """What a setting's meaning hangs on; [] for one that stands for itself."""
    return [parents for parents, hanging in HANGS.items() if name in hanging]


def parent(values: Values, names: Sequence[str]) -> Any:
    """The value that counts among names of which later ones stand in for earlier ones."""
    return next((values[name] for name in names if values.get(name) is not None), None)


def misfits(name: str, value: Any, then: Values, now: Values) -> Iterator[tuple[str, Any, Any]]:
    """What has changed under a setting: (what it hangs on, the value it was given for, the value now).

    Args:
        value: of the setting.
        then: settings beside which it was given. now: those in force.
    """
    for parents in hangs_on(name):
        before, after = parent(then, parents), parent(now, parents)
        if name in NAMING:
            before, after = _rewards(value, before), _rewards(value, after)
        if before is not None and not _same(before, after):
            yield parents[0] if then.get(parents[0]) or now.get(parents[0]) else parents[-1], before, after


def _rewards(value: Any, rewards: Any) -> list[str]:
    """Of NAME=MODEL entries those whose names the value names."""
    asked = {item.partition("=")[0] for item in _listed(value)}
    return sorted(item for item in _listed(rewards) if item.partition("=")[0] in asked)


def _listed(value: Any) -> list[str]:
    """The texts of a list; a value of a wrong type has none, and is refused by its own check."""
    items = [value] if isinstance(value, str) else value if isinstance(value, (list, tuple)) else ()
    return [item for item in items if isinstance(item, str)]


def _same(before: Any, after: Any) -> bool:
    """Whether two values are one; of paths, whether they lead to one place."""
    if (
        isinstance(before, str)
        and isinstance(after, str)
        and os.path.isabs(before)
        and os.path.isabs(after)
    ):
        return os.path.realpath(before) == os.path.realpath(after)
    return bool(before == after)
