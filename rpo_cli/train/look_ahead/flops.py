"""One pass of a denoiser on torch's meta device, where a tensor has a shape and no memory: what it costs.

FLOPs are of matrix products and convolutions (a multiply-add counts 2); bytes are what autograd keeps.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import diffusers
import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode

from rpo_cli.config import TrainSettings
from rpo_cli.train.families import Family
from rpo_cli.train.families.folder import Folder
from rpo_cli.train.policy import DTYPES, Policy, build_policy
from rpo_cli.train.texts import blank_texts

Pass = Callable[[nn.Module], Tensor]
SINGLE = 4  # bytes of a float32


@dataclass(frozen=True)
class Flops:
    """Useful floating-point operations of one item, without what is computed again to save memory.

    A reference whose errors are kept counts nothing.
    """

    policy_forward: int
    policy_backward: int
    reference_forward: int

    @property
    def total(self) -> int:
        return self.policy_forward + self.policy_backward + self.reference_forward


def blank_policy(settings: TrainSettings, family: Family, folder: Folder) -> Policy:
    """The policy that a training would have, without memory."""
    loader = getattr(diffusers, family.denoiser)
    config = folder.config(family.component, loader)
    with torch.device("meta"):
        denoiser = loader.from_config(config).eval()
    plain = settings.model_copy(update={"compile": False, "gradient_checkpointing": False})
    texts = blank_texts(family, settings, folder)
    return build_policy(denoiser, plain, family.lora_targets, 0, "meta", texts)


def blank_pass(settings: TrainSettings, family: Family, policy: Policy, count: int) -> Pass:
    """What a denoiser says to `count` pictures, on the meta device."""
    (channels, side, _), own = family.latent_size()
    side = side * (settings.resolution or own) // own
    noisy = torch.zeros(count, channels, side, side, device="meta")
    times = torch.zeros(count, device="meta")
    given = family.blank_condition(count)

    def said(unet: nn.Module) -> Tensor:
        condition = given | (policy.texts.condition([""] * count, count) if policy.texts else {})
        return family.predict(unet, noisy, times, condition)

    return said


def passes(
    settings: TrainSettings, policy: Policy, said: Pass, *, with_reference: bool
) -> tuple[Flops, int, int]:
    """(FLOPs, those that gradient checkpointing does twice, bytes kept for the backward pass)."""
    reference = 0
    if with_reference:
        with torch.no_grad(), policy.reference() as unet:
            reference = counted(lambda: said(unet))
    found: list[Tensor] = []
    forward = counted(lambda: found.append(said(policy.unet)))
    backward = counted(lambda: found.pop().sum().backward())
    again, checkpointing = 0, settings.gradient_checkpointing
    if checkpointing:
        policy.unet.enable_gradient_checkpointing()
        again = counted(lambda: said(policy.unet).sum().backward()) - forward - backward
    texts = [value for module in policy.encoders.values() for value in module.parameters()]
    kept = kept_bytes(policy.unet, lambda: said(policy.unet), checkpointing=checkpointing, others=texts)
    return Flops(forward, backward, reference), again, kept * DTYPES[settings.dtype].itemsize // SINGLE


def counted(work: Callable[[], object]) -> int:
    """FLOPs of the matrix products and convolutions in `work`, a multiply-add counted 2."""
    with FlopCounterMode(display=False) as counter:
        work()
    return int(counter.get_total_flops())


class Kept:
    """Bytes of the storages that autograd keeps, each once; weights lie there anyway."""

    def __init__(self, weights: Iterable[Tensor]) -> None:
        self._weights = {weight.untyped_storage()._cdata for weight in weights}
        self._storages: dict[int, torch.UntypedStorage] = {}

    def add(self, value: Tensor) -> Tensor:
        storage = value.untyped_storage()
        if storage._cdata not in self._weights:
            self._storages[storage._cdata] = storage  # held, so that its address is not used again
        return value

    @property
    def bytes(self) -> int:
        return sum(storage.nbytes() for storage in self._storages.values())


def kept_bytes(
    unet: Any, forward: Callable[[], object], *, checkpointing: bool, others: Iterable[Tensor] = ()
) -> int:
    """What autograd keeps of a pass; with checkpointing the blocks' inputs and the largest block."""
    weights = [*unet.parameters(), *others]
    outside, largest = Kept(weights), 0

    def block(work: Callable[..., Any], *inputs: Any, **named: Any) -> Any:
        nonlocal largest
        for value in (*inputs, *named.values()):
            for tensor in value if isinstance(value, tuple) else (value,):
                if isinstance(tensor, Tensor):
                    outside.add(tensor)
        inside = Kept(weights)
        with saved_tensors_hooks(inside.add, _as_it_is):
            result = work(*inputs, **named)
        largest = max(largest, inside.bytes)
        return result

    if checkpointing:
        unet.enable_gradient_checkpointing(block)
    with saved_tensors_hooks(outside.add, _as_it_is):
        forward()
    return outside.bytes + largest


def _as_it_is(value: Tensor) -> Tensor:
    return value
