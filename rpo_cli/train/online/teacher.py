"""Optimiser steps on what a round teaches."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from rpo_cli.config import OnlineSettings, TrainSettings
from rpo_cli.errors import RpoError
from rpo_cli.records import row_seed
from rpo_cli.train.journal import Numbers
from rpo_cli.train.noise import seeded
from rpo_cli.train.objectives.online import OnlineObjective
from rpo_cli.train.online.lesson import Lesson, State
from rpo_cli.train.online.losses import beyond_shares, losses
from rpo_cli.train.online.rollout import Rollout, padded
from rpo_cli.train.online.trajectory import Sampler, log_probability, step_kl, step_of
from rpo_cli.train.processes import ALONE, World, gather_tables
from rpo_cli.train.step import learning_rate


@dataclass
class Tally:
    """What the steps of a round add up to."""

    log_ratios: list[Tensor] = field(default_factory=list)  # (steps, width, items) each
    advantages: list[Tensor] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    norms: list[float] = field(default_factory=list)
    first: float = 0.0  # largest |ℓ| at the round's first optimiser step: 0 where ratios start at 1


@dataclass(frozen=True)
class Teacher:
    """Everything that learning from a round reads.

    Attributes:
        rows: of a forward pass, the same as in sampling.
        beta: in the objective's own unit; 0 where it has none.
        world: each process learns from a share of a step's items.
    """

    sampler: Sampler
    objective: OnlineObjective
    settings: TrainSettings
    online: OnlineSettings
    rows: int
    beta: float
    seed: int
    world: World = ALONE

    def teach(self, rollout: Rollout, lesson: Lesson, state: State) -> Numbers:
        """Optimiser steps over the items of a round, each used `inner_epochs` times.

        Raises:
            RpoError: a loss or gradient that is not finite.
        """
        tally = Tally()
        for epoch in range(self.online.inner_epochs):
            order = self._shuffled(len(lesson.items), state.round, epoch)
            steps = self._taught(state.round, epoch)
            for start in range(0, len(order), self.settings.global_batch):
                places = order[start : start + self.settings.global_batch]
                self._step(rollout, lesson, places, steps, state, tally)
        return self._numbers(rollout, tally, state)

    def _shuffled(self, count: int, index: int, epoch: int) -> list[int]:
        order: list[int] = torch.randperm(
            count, generator=seeded(row_seed(self.seed, "teach", index, epoch))
        ).tolist()
        return order

    def _taught(self, index: int, epoch: int) -> list[int]:
        """The denoising steps of this use, noisiest first: those that have a density, or some of them."""
        steps = self.sampler.grid.random_steps
        count = min(self.online.taught_steps or len(steps), len(steps))
        generator = seeded(row_seed(self.seed, "taught", index, epoch))
        chosen = torch.randperm(len(steps), generator=generator)[:count].sort().values
        return [steps[place] for place in chosen.tolist()]

    def _step(
        self,
        rollout: Rollout,
        lesson: Lesson,
        places: Sequence[int],
        steps: Sequence[int],
        state: State,
        tally: Tally,
    ) -> None:
        """One optimiser step on the mean loss of some items, over their steps."""
        state.optimiser.zero_grad(set_to_none=True)
        total, ratios = self._gradient(Chunk(self, rollout, lesson, places, steps), state.scaler)
        if not tally.losses:
            tally.first = float(ratios.abs().max())
        tally.log_ratios.append(ratios)
        if lesson.advantage is not None:
            tally.advantages.append(lesson.advantage[list(steps)][:, list(places)])
        state.scaler.unscale_(state.optimiser)
        parameters = self.sampler.policy.parameters.values()
        norm = float(torch.nn.utils.clip_grad_norm_(parameters, self.settings.max_grad_norm))
        if not (math.isfinite(total) and (math.isfinite(norm) or state.scaler.is_enabled())):
            raise RpoError(
                f"round {state.round + 1}: the loss is {total}, its gradient's norm {norm}",
                "lower the learning rate, or use --dtype float32; the last round is saved",
            )
        for group in state.optimiser.param_groups:
            group["lr"] = learning_rate(self.settings, state.step)
        state.scaler.step(state.optimiser)
        state.scaler.update()
        state.step += 1
        if state.average is not None:
            state.average.update(state.step)
        tally.losses.append(total)
        tally.norms.append(norm)

    def _gradient(self, whole: "Chunk", scaler: torch.amp.GradScaler) -> tuple[float, Tensor]:
        """The gradient of the mean loss of all items, on every process; the loss and all log-ratios."""
        places, parameters = whole.places, list(self.sampler.policy.parameters.values())
        shares = self.world.shares(len(places))
        own, size = shares[self.world.rank], self.rows // self.objective.width
        total, found = 0.0, [torch.zeros(len(whole.steps), self.objective.width, 0)]
        for start in own[::size]:
            chunk = replace(whole, places=places[start : min(start + size, own.stop)])
            summed, ratios = chunk.backward(1 / len(places), scaler)
            total += summed
            found.append(ratios)
        if self.world.size > 1:
            for parameter in parameters:  # a process without items has none yet
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
            self.world.add_gradients(parameters)
            losses = torch.tensor([[total]], dtype=torch.float64)
            total = float(self.world.gather(losses, [1] * self.world.size).sum())
        tables = {"log-ratios": torch.cat(found, dim=2)}
        gathered = gather_tables(self.world, tables, [len(part) for part in shares])
        return total, gathered["log-ratios"]

    def _numbers(self, rollout: Rollout, tally: Tally, state: State) -> Numbers:
        found: Numbers = {"optimiser_steps": state.step}
        reference = rollout.trajectories.reference_means
        if reference is not None:
            found["reference_kl"] = self._reference_kl(rollout, reference)
        if not tally.losses:
            return found
        ratios = torch.cat(tally.log_ratios, dim=2)
        advantage = torch.cat(tally.advantages, dim=1) if tally.advantages else None
        shares = {n: float(v) for n, v in beyond_shares(self.objective, ratios, advantage).items()}
        return found | {
            "loss": float(np.mean(tally.losses)),
            "grad_norm": float(np.mean(tally.norms)),
            "learning_rate": learning_rate(self.settings, state.step - 1),
            "approximate_kl": float(0.5 * ratios.square().mean()),
            **({"first_log_ratio": tally.first} if self.objective.ratio_base == "old" else {}),
            **shares,
        }

    def _reference_kl(self, rollout: Rollout, reference: Tensor) -> float:
        """KL of the sampling policy's steps to the initial policy's, per step and element."""
        means = rollout.trajectories.means
        grid = self.sampler.grid
        values = [
            step_kl(grid, index, means[index], reference[index]).mean() for index in grid.random_steps
        ]
        return float(torch.stack(values).mean())


@dataclass(frozen=True)
class Chunk:
    """Some items that go through the model together, each step in a pass of its own."""

    teacher: Teacher
    rollout: Rollout
    lesson: Lesson
    places: Sequence[int]
    steps: Sequence[int]

    @property
    def pictures(self) -> list[int]:
        """Places of the pictures, winners first."""
        return [
            self.lesson.items[place][side]
            for side in range(self.teacher.objective.width)
            for place in self.places
        ]

    @property
    def advantage(self) -> Tensor | None:
        """(steps, items)."""
        found = self.lesson.advantage
        return None if found is None else found[list(self.steps)][:, list(self.places)]

    def backward(self, share: float, scaler: torch.amp.GradScaler) -> tuple[float, Tensor]:
        """Add the gradient of `share` times the sum of the items' losses.

        An item's loss is the mean over its steps, but for a pair whose steps are summed inside its link:
        there all steps are run once without gradient, which gives each step's slope, and again to carry
        the slopes back. So no more than one step's activations are ever kept.

        Returns:
            That sum times `share`, and the log-ratios without gradient, (steps, width, items).
        """
        objective, count = self.teacher.objective, len(self.steps)
        if objective.form == "pair":
            with torch.no_grad():
                ratios = torch.stack([self.log_ratio(index)[0] for index in self.steps])
            leaf = ratios.clone().requires_grad_()
            summed = share * losses(objective, leaf, None, self.teacher.beta).sum()
            (slopes,) = torch.autograd.grad(summed, leaf)
            for index, slope in zip(self.steps, slopes, strict=True):
                scaler.scale((self.log_ratio(index)[0] * slope).sum()).backward()
            return float(summed.detach()), ratios.cpu()
        total, found = 0.0, []
        for number, index in enumerate(self.steps):
            ratio, penalty = self.log_ratio(index)
            advantage = (
                None if self.advantage is None else self.advantage[number : number + 1].to(ratio.device)
            )
            loss = losses(objective, ratio[None], advantage, self.teacher.beta).sum() + penalty.sum()
            part = loss * (share / count)
            scaler.scale(part).backward()
            total += float(part.detach())
            found.append(ratio.detach().cpu())
        return total, torch.stack(found)

    def log_ratio(self, index: int) -> tuple[Tensor, Tensor]:
        """ℓ of one step, (width, items), and what the step's KL adds to each loss, (items,)."""
        teacher, drawn, pictures = self.teacher, self.rollout.trajectories, self.pictures
        sampler, grid, objective = teacher.sampler, teacher.sampler.grid, teacher.objective
        rows = padded(pictures, teacher.rows)
        condition = {part: value[rows] for part, value in self.rollout.condition.items()}
        latents, following = (drawn.latents[at, rows].to(sampler.device) for at in (index, index + 1))
        prediction = sampler.predict(
            sampler.policy.unet, latents, index, sampler.both(condition, self.rollout.empty)
        )
        mean = step_of(grid, index, latents, prediction).mean
        now = log_probability(grid, index, mean, following)
        base = drawn.log_probabilities[index, rows].to(sampler.device)
        penalty = now.new_zeros(len(pictures))
        if drawn.reference_means is not None:
            theirs = drawn.reference_means[index, rows].to(sampler.device)
            if objective.ratio_base == "ref":
                base = log_probability(grid, index, theirs, following)
            if objective.penalty == "step KL":
                penalty = teacher.beta * step_kl(grid, index, mean, theirs)[: len(pictures)]
        ratio = (now - base)[: len(pictures)].reshape(objective.width, -1)
        return ratio, penalty.reshape(objective.width, -1).sum(0)
