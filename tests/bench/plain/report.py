"""What a plain script ends with: one line of JSON on stdout, and the options that all of them take."""

import argparse
import json
import sys
import time
from pathlib import Path

import torch


def options(what: str) -> argparse.ArgumentParser:
    """A parser with what every script is told."""
    parser = argparse.ArgumentParser(description=what)
    parser.add_argument("--model", type=Path, required=True, help="folder of the model")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32", help="of weights and activations")
    parser.add_argument("--batch", type=int, default=1, help="rows of one call of the model")
    return parser


def dtype(name: str) -> torch.dtype:
    return getattr(torch, name)


def now(device: str) -> float:
    """Seconds, after everything that the device was asked for."""
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return time.perf_counter()


def ended(numbers: list[float], **more: object) -> None:
    """Print what came out (`numbers`, to be compared with rpo's) and what was measured on the way."""
    sys.stdout.write(json.dumps({"numbers": numbers, **more}) + "\n")
