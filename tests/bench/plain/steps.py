"""The steps of Diffusion-DPO (Wallace et al. 2023, arXiv:2311.12908) on encoded pairs: AdamW, one clip."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import torch
from safetensors import safe_open
from torch.nn.functional import logsigmoid

from tests.bench.plain import denoiser, encode, report

PARTS, CHANCE = ("hidden", "pooled", "time_ids"), ("pair", "timestep", "noise", "posterior")


def options(what: str):
    parser = report.options(what)
    parser.add_argument("--dataset", type=Path, required=True)
    parser.add_argument("--cache", type=Path, required=True, help="of what encode.py gives")
    parser.add_argument("--encode-batch", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--global-batch", type=int, default=1)
    parser.add_argument("--beta", type=float, default=500.0)
    parser.add_argument("--learning-rate", type=float, default=1e-4)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--draws", type=Path, help="safetensors: what chance decides; none: torch's own")
    return parser


def drawn(told, step: int, count: int, shape: tuple[int, ...]) -> list[torch.Tensor]:
    """Of the pairs of a step: which, timestep, noise, posterior sample."""
    if told.draws:
        with safe_open(told.draws, "pt") as file:
            return [file.get_slice(name)[step : step + 1][0] for name in CHANCE]
    size = told.global_batch
    which = (torch.arange(size) + step * size) % count
    return [which, torch.randint(1000, (size,)), torch.randn(size, *shape), torch.randn(size, *shape)]


def batch(told, values: dict, rows: list, times, noise, sample) -> tuple:
    """Noisy latents, the winners first, what is wanted, timesteps and conditions, on the device."""
    names = [row[side] for side in (1, 2) for row in rows]
    mean, std = (torch.stack([values[f"{name}.{part}"] for name in names]) for part in ("mean", "std"))
    given = denoiser.noised(
        told.model, mean + std * sample.repeat(2, 1, 1, 1), noise.repeat(2, 1, 1, 1), times.repeat(2)
    )
    known = [part for part in PARTS if f"{rows[0][0]}.{part}" in values]
    condition = {part: torch.stack([values[f"{row[0]}.{part}"] for row in rows] * 2) for part in known}
    return *(value.to(told.device) for value in given), {k: v.to(told.device) for k, v in condition.items()}


def train(told, net, reference: Callable[[], AbstractContextManager], parameters: list) -> dict:
    """Losses and winners' errors of every step as numbers, its seconds, and the optimiser."""
    pairs, pictures = encode.read(told.dataset)
    values = encode.cached(told.cache, told.model, pairs, pictures, told.device, told.encode_batch)
    optimiser = torch.optim.AdamW(parameters, lr=told.learning_rate, weight_decay=1e-2, fused=True)
    kind, half = torch.device(told.device).type, report.dtype(told.dtype)
    losses, winners, seconds = [], [], []
    for step in range(told.steps):
        began, total, won = report.now(told.device), 0.0, 0.0
        which, *chance = drawn(told, step, len(pairs), values[f"{pairs[0][1]}.mean"].shape)
        for at in torch.arange(told.global_batch).split(told.batch):
            rows = [pairs[which[place]] for place in at]
            noisy, wanted, t, condition = batch(told, values, rows, *(value[at] for value in chance))
            with torch.autocast(kind, half, enabled=half != torch.float32):
                with torch.no_grad(), reference() as frozen:
                    before = denoiser.predict(frozen, noisy, t, condition)
                after = denoiser.predict(net, noisy, t, condition)
            error, kept = ((said.float() - wanted).square().mean((1, 2, 3)) for said in (after, before))
            (win, lose), (win_0, lose_0) = error.chunk(2), kept.chunk(2)
            loss = -logsigmoid(-told.beta / 2 * ((win - win_0) - (lose - lose_0))).sum() / told.global_batch
            loss.backward()
            total, won = total + loss.item(), won + win.sum().item() / told.global_batch
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        losses, winners = [*losses, total], [*winners, won]
        seconds.append(report.now(told.device) - began)
    return {"numbers": losses + winners, "seconds": seconds, "optimiser": optimiser}
