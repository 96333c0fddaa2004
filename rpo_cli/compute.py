"""Devices, threads, versions and memory. torch is imported inside functions: this module is cheap."""

import os
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from rpo_cli.errors import RpoError, UsageError

# what can change the bits of a result; recorded in every row, never in its key
LIBRARIES = ("torch", "diffusers", "transformers", "peft", "numpy", "pillow", "llguidance")

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Launch:
    """This process among those that a launcher (`accelerate launch`, torchrun) started; alone without one.

    Attributes:
        local: its place on this machine, and so its GPU.
    """

    rank: int = 0
    size: int = 1
    local: int = 0


def launched() -> Launch:
    """From RANK, WORLD_SIZE and LOCAL_RANK.

    Raises:
        UsageError: they are no numbers, or contradict each other.
    """
    if not {"RANK", "WORLD_SIZE"} <= os.environ.keys():
        return Launch()
    said = [os.environ["RANK"], os.environ["WORLD_SIZE"], os.environ.get("LOCAL_RANK", "0")]
    try:
        rank, size, local = map(int, said)
    except ValueError:
        rank, size, local = -1, 0, 0
    if not 0 <= rank < size:
        raise UsageError(
            "RANK, WORLD_SIZE and LOCAL_RANK are " + ", ".join(said) + ": no place among processes",
            "unset them, or start with `accelerate launch` or torchrun",
        )
    return Launch(rank, size, local)


def pick_device(name: str, launch: Launch = Launch()) -> str:
    """The torch device string for a setting: "auto" is cuda, else mps, else cpu.

    One of several processes gets the GPU of its place on the machine, unless a number was named.

    Raises:
        UsageError: a device was named that this machine does not have.
    """
    import torch

    present = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(device for device, there in present.items() if there)
    kind = name.partition(":")[0]
    if not present.get(kind, False):
        have = ", ".join(device for device, there in present.items() if there)
        raise UsageError(f"device '{name}' is not on this machine (it has: {have})", "use --device auto")
    return f"cuda:{launch.local}" if name == "cuda" and launch.size > 1 else name


def set_threads(count: int) -> None:
    """Use `count` CPU threads within an operation; 0 leaves torch's own choice.

    The count is part of what a row's bits depend on (order of floating-point sums).
    """
    import torch

    if count:
        torch.set_num_threads(count)


@cache
def versions(names: tuple[str, ...]) -> Mapping[str, str]:
    """Library → its version, of those that are installed; looked up once a process, and not imported."""
    found = {}
    for library in names:
        with suppress(PackageNotFoundError):
            found[library] = version(library)
    return MappingProxyType(found)


def environment(device: str) -> dict[str, str]:
    """What the bits of a row depend on beside its settings: versions, device, threads. No host, no time."""
    import torch

    found = {"python": platform.python_version(), "machine": platform.machine(), **versions(LIBRARIES)}
    found["device"] = torch.cuda.get_device_name(device) if device.startswith("cuda") else device
    if device == "cpu":
        found["threads"] = str(torch.get_num_threads())
    return found


LARGE = 100_000_000  # weights: convolutions of more than these gain little from another layout on a CPU


def fastest_layout(denoiser: Any, device: str) -> Any:
    """The order in memory, a `torch.memory_format`, in which a denoiser's convolutions do best.

    Channels last: a third faster on a CPU on the embedded UNet. On one of 220 M weights it is 5 % faster
    there and takes a fifth more memory, since oneDNN keeps weights of its own.
    """
    import torch

    large = sum(weight.numel() for weight in denoiser.parameters()) > LARGE
    return torch.contiguous_format if device == "cpu" and large else torch.channels_last


def free_memory(device: str) -> int | None:
    """Bytes that a process may still take on a device; None where that is not known.

    On a CPU what the kernel can hand out without swapping, within the limits of this process's control
    groups: to take more is no error there, but its end.
    """
    if device.startswith("cuda"):
        import torch

        return int(torch.cuda.mem_get_info(device)[0])
    if device != "cpu":
        return None
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return None
    return min([free, *_left_in_groups(Path("/proc/self/cgroup"), Path("/sys/fs/cgroup"))])


GROUPS = {  # by controller: its folder; limit and use; what of the page cache is given back on demand
    "": ("", "memory.max", "memory.current", "inactive_file"),
    "memory": ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}


def _left_in_groups(own: Path, root: Path) -> Iterator[int]:
    """Bytes that each limit on this process leaves, in groups of either version."""
    try:
        lines = own.read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, controller, path = line.split(":", 2)
        if controller not in GROUPS:
            continue
        folder, limit, used, cached = GROUPS[controller]
        top = root / folder
        for group in (top / path.strip("/"), *(top / path.strip("/")).parents):
            if not group.is_relative_to(top):
                break
            with suppress(OSError, ValueError):  # in a container some are not there; "max" is no limit
                left = int((group / limit).read_text()) - int((group / used).read_text())
                entries = dict(entry.split() for entry in (group / "memory.stat").read_text().splitlines())
                yield left + int(entries.get(cached, 0))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that a smaller batch may fit.

    torch has a class for CUDA only; the CPU and MPS allocators raise RuntimeError with a message.
    """
    import torch

    if isinstance(error, (torch.cuda.OutOfMemoryError, MemoryError)):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and (
        "out of memory" in text or "can't allocate memory" in text or "not enough memory" in text
    )


def run_halving(
    step: Callable[[Sequence[T]], Sequence[R]],
    items: Sequence[T],
    size: int,
    *,
    what: str,
    note: Callable[[str], None] = lambda text: None,
) -> tuple[list[R], int]:
    """Run `step` over `items` in batches of exactly `size`, halving `size` when memory runs out.

    The last batch is padded with copies of its last item, so every result comes from one batch shape.
    A halving starts over, for the same reason.

    Returns:
        One result per item, and the size that made them.

    Raises:
        RpoError: out of memory at size 1.
    """
    while True:
        try:
            return _in_batches(step, items, size), size
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            if size == 1:
                raise RpoError(
                    f"{what}: out of memory at batch size 1",
                    "use a smaller image size, --dtype float16, or a larger device; nothing is lost",
                ) from error
        size //= 2
        note(f"{what}: out of memory, going on with batch size {size}")


def _in_batches(step: Callable[[Sequence[T]], Sequence[R]], items: Sequence[T], size: int) -> list[R]:
    results: list[R] = []
    for start in range(0, len(items), size):
        batch = items[start : start + size]
        padded = [*batch, *[batch[-1]] * (size - len(batch))]
        results += list(step(padded))[: len(batch)]
    return results


# dense bf16 and fp16 FLOP/s by the name that torch.cuda gives; NVIDIA's data sheets
PEAKS = {"H200": 989e12, "H100 80GB HBM3": 989e12, "A100": 312e12}


def known_peak(device: str, dtype: str) -> float | None:
    """FLOP/s; None for float32, which may or may not run as TF32, and for devices not in `PEAKS`."""
    if not device.startswith("cuda") or dtype == "float32":
        return None
    import torch

    name = torch.cuda.get_device_name(device)
    return next((peak for part, peak in PEAKS.items() if part in name), None)
