"""Loading a transformers model and its processor the safe way, with errors in two lines."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from diffusers.utils import logging as diffusers_logging

from rpo_cli import installing
from rpo_cli.errors import MissingDependency, RpoError
from rpo_cli.model_files import part_loaded


def load_model(
    ref: str,
    kind: str,
    model: Any,
    processor: Any,
    *,
    revision: str | None,
    device: str,
    dtype: Any,
    whole: bool = False,
) -> tuple[Any, Any]:
    """(processor, model in evaluation mode on its device): safetensors only, no code from the folder.

    Args:
        ref: a local folder or a hub id.
        kind: what it should be, for the error: "a vision-language model".
        model: the transformers class (an Auto class or a plain one) that loads the weights.
        processor: the class that loads the processor.
        whole: refuse a folder that lacks weights, which the library would fill at random.

    Raises:
        MissingDependency: the processor needs a package that is not installed.
        RpoError: the folder does not load; the library's reason is in the message.
    """
    safe = {"revision": revision, "trust_remote_code": False}
    prepared = told(ref, kind, lambda: processor.from_pretrained(ref, **safe))

    def load(also: dict[str, Any]) -> Any:
        how = {"dtype": dtype, "use_safetensors": True, "output_loading_info": whole}
        return model.from_pretrained(ref, **how, **also, **safe)

    weights = told(
        ref,
        kind,
        lambda: part_loaded(ref, revision, load),
    )
    if whole:
        weights, said = weights
        missing = sorted(said["missing_keys"])
        if missing:
            raise RpoError(
                f"{ref}: cannot be loaded as {kind}: it lacks {len(missing)} weights, e.g. {missing[0]}",
                "the weights are of another kind of model, or their names are of another library",
            )
    return prepared, weights.eval().to(device)


def told(ref: str, kind: str, load: Callable[[], Any]) -> Any:
    """What `load` gives; what its libraries raise as an error in two lines."""
    try:
        return load()
    except ImportError as error:
        package = error.name or ("torchvision" if "torchvision" in str(error).lower() else None)
        raise MissingDependency(
            f"{ref}: loading it needs {package or 'a package'}: {first_line(error)}",
            installing.package(package) if package else "install what the message names",
        ) from error
    except (OSError, ValueError, KeyError, AttributeError, TypeError, RuntimeError) as error:
        raise RpoError(
            f"{ref}: cannot be loaded as {kind}: {first_line(error)}",
            "the folder must hold config.json, a processor and safetensors weights; see `rpo doctor`, and "
            "`rpo convert` for pickled weights",
        ) from error


@contextmanager
def quiet() -> Iterator[None]:
    """Without diffusers' log: what matters of it is said in our own words."""
    level = diffusers_logging.get_verbosity()
    diffusers_logging.set_verbosity(logging.CRITICAL)
    try:
        yield
    finally:
        diffusers_logging.set_verbosity(level)


def first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].strip() if lines else type(error).__name__
