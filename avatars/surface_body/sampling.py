"""Where along rays samples lie: only within the posed, dilated template, shared out by length (method page 12.2).

Distances to the template at places along a ray, straight in between, say where it is inside. All inside lengths laid
end to end are one coordinate `u` of the ray, in which samples are drawn; gaps between parts do not exist there.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Spans:
    """R rays of S segments. start_m: [R, S] where the inside part of each begins; ends: [R, S] the inside length up to
    its end."""

    start_m: Tensor
    ends: Tensor

    @property
    def length_m(self) -> Tensor:
        """[R] m of each ray that lie inside."""
        return self.ends[:, -1]

    def at(self, u: Tensor) -> Tensor:
        """Distances [R, N] m along the rays of inside lengths u [R, N] m, rising in u."""
        index = torch.searchsorted(self.ends, u.contiguous()).clamp(max=self.ends.shape[1] - 1)
        begun = torch.nn.functional.pad(self.ends, (1, 0)).gather(1, index)
        return self.start_m.gather(1, index) + (u - begun).clamp_min(0)


def spans_of(t_m: Tensor, distance_m: Tensor, shell_m: float) -> Spans:
    """Where rays are within shell_m of what distances [R, S + 1] at t_m [R, S + 1] are from, straight in between."""
    over = distance_m - shell_m
    one, two = over[:, :-1], over[:, 1:]
    step = t_m.diff(dim=1)
    change = one - two
    crossing = (one / torch.where(change.abs() < 1e-12, torch.ones_like(change), change)).clamp(0, 1)
    begins = torch.where(one <= 0, torch.zeros_like(one), torch.where(two <= 0, crossing, torch.ones_like(one)))
    ends = torch.where(two <= 0, torch.ones_like(one), torch.where(one <= 0, crossing, torch.zeros_like(one)))
    inside = (ends - begins).clamp_min(0) * step
    return Spans(t_m[:, :-1] + begins * step, inside.cumsum(1))


def even_edges(length_m: Tensor, count: int) -> Tensor:
    """Borders [R, count + 1] of `count` equal parts of inside lengths [R] m."""
    return length_m[:, None] * torch.linspace(0, 1, count + 1, device=length_m.device)


def drawn_edges(edges: Tensor, weights: Tensor, spread: float, count: int) -> Tensor:
    """Borders [R, count + 1] of parts with equal shares of weights [R, M] over parts `edges` [R, M + 1].

    `spread` of the shares lies evenly. The part before a heavy one counts as heavy: the surface is in either.
    """
    width = edges.diff(dim=1)
    total = edges[:, -1:].clamp_min(1e-9)
    blurred = torch.maximum(weights, torch.nn.functional.pad(weights[:, 1:], (0, 1)))
    mass = blurred.sum(1, keepdim=True)
    heavy = torch.where(mass > 1e-6, blurred / mass.clamp_min(1e-6), width / total)
    share = (1 - spread) * heavy + spread * width / total
    running = torch.nn.functional.pad(share.cumsum(1), (1, 0))
    running = running / running[:, -1:].clamp_min(1e-9)
    wanted = torch.linspace(0, 1, count + 1, device=edges.device).expand(len(edges), -1).contiguous()
    index = torch.searchsorted(running, wanted, right=True).clamp(1, running.shape[1] - 1)
    below, above = running.gather(1, index - 1), running.gather(1, index)
    part = ((wanted - below) / (above - below).clamp_min(1e-12)).clamp(0, 1)
    return torch.lerp(edges.gather(1, index - 1), edges.gather(1, index), part)


def within(edges: Tensor, share: Tensor | None) -> Tensor:
    """A place [R, N] in each part of edges [R, N + 1]: at shares [R, N] of it, or in the middle."""
    return edges[:, :-1] + edges.diff(dim=1) * (0.5 if share is None else share)
