"""Are two ways of computing the same numbers as close as rounding lets them be?

Processors, libraries and numbers of threads order and fuse the additions of one sum differently. Each
order is off by a few roundings of the largest number in it, whatever is left after cancelling: so a bound
is relative to the largest number expected and derived from the dtype, never absolute and never relative
element by element (it would be nothing near zero). One path run twice has equal bits: that is torch.equal.
"""

from collections.abc import Sequence

import numpy as np
import torch

Numbers = torch.Tensor | np.ndarray | Sequence[float] | float

FORWARD = 64
"""Roundings that a small model's forward pass may take; up to 9 were seen on one processor."""

GRADIENT = 512
"""And its gradient: of winner and loser each is larger than what their difference leaves; up to 65."""


def assert_close(
    actual: Numbers,
    expected: Numbers,
    steps: float = 16,
    *,
    scale: float | None = None,
) -> None:
    """Every number of `actual` within `steps` roundings of the largest finite one of `expected`.

    `scale` replaces that largest number where a sum ran over larger ones that cancelled. A rounding is
    finfo(dtype).eps of the coarser dtype of the two, and fp32's for Python's own numbers.

    Raises:
        AssertionError: shapes differ, other places are NaN or infinite, or some number is farther off.
    """
    (one, own), (other, theirs) = _double(actual), _double(expected)
    assert one.shape == other.shape, f"shapes {tuple(one.shape)} and {tuple(other.shape)}"
    finite = other.isfinite()
    strange, wanted = one[~finite].numpy(), other[~finite].numpy()
    assert np.array_equal(strange, wanted, equal_nan=True), f"not finite: {wanted}, found {strange}"
    one, other = one[finite], other[finite]
    size = _largest(other) if scale is None else scale
    rounding = size * max(own, theirs)
    apart = _largest(one - other)
    assert apart <= steps * rounding, (
        f"{apart:.3g} apart: {apart / (rounding or 1):.3g} roundings of {size:.3g}, {steps} are allowed"
    )


def _largest(values: torch.Tensor) -> float:
    return float(values.abs().max()) if values.numel() else 0.0


def _double(numbers: Numbers) -> tuple[torch.Tensor, float]:
    """In float64, and the eps of the dtype they come in."""
    given = numbers.detach().cpu() if isinstance(numbers, torch.Tensor) else torch.as_tensor(numbers)
    native = isinstance(numbers, torch.Tensor | np.ndarray) and given.dtype.is_floating_point
    return given.double(), torch.finfo(given.dtype if native else torch.float32).eps
