"""A checkpoint: weights and both moments in one file, its hash, flushed to the disk."""

import hashlib
import os
import time
from pathlib import Path

import torch
from safetensors.torch import save_file

from tests.bench.plain import denoiser, report


def save(file: Path, net: torch.nn.Module, optimiser: torch.optim.Optimizer) -> str:
    """Write what a training goes on from; returns the SHA-256 of the file."""
    named = [(name, value) for name, value in net.named_parameters() if value.requires_grad]
    tensors = {name: value.detach().cpu().contiguous() for name, value in named}
    for name, value in named:
        state = optimiser.state[value]
        moments = {key: state[key].cpu().contiguous() for key in ("exp_avg", "exp_avg_sq")}
        tensors |= {f"{key}.{name}": moment for key, moment in moments.items()}
    save_file(tensors, file)
    digest = hashlib.sha256()
    with file.open("rb+") as written:
        for chunk in iter(lambda: written.read(1 << 20), b""):
            digest.update(chunk)
        os.fsync(written.fileno())
    return digest.hexdigest()


if __name__ == "__main__":
    parser = report.options(__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--times", type=int, default=1)
    told = parser.parse_args()
    net = denoiser.load(told.model, torch.float32, told.device)
    optimiser = torch.optim.AdamW(net.parameters(), fused=True)
    for value in net.parameters():
        value.grad = torch.zeros_like(value)
    optimiser.step()
    optimiser.zero_grad(set_to_none=True)
    began = time.process_time()
    for _ in range(told.times):
        save(told.out, net, optimiser)
    report.ended([float(told.out.stat().st_size)], cpu=(time.process_time() - began) / told.times)
