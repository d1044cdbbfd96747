"""Skinning everywhere from a network alone, and the published way back to canonical places (method page 3.3 and 5).

It starts with the weights of the nearest posed vertices, then asks the network where that has led, again and again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from avatars.skinning.affine import inverse_applied
from avatars.surface_body.body import StarBody
from avatars.surface_body.parity_networks import SkinNetwork
from avatars.surface_body.parity_settings import ParityNetworks
from avatars.surface_body.trilinear import Lattice

AT_ONCE = 1 << 24
CELL_M, WIDE_CELL_M = 0.01, 0.06
"""Places of one cell choose among the same vertices; beyond reach of the body in wide ones."""
CANDIDATES = 48
FITTED_M, FIT_RATE, FIT_PLACES = 0.065, 2e-3, 2048


class NetworkWeights(nn.Module):
    """`SkinWeights` of a network with shares handed down the skeleton."""

    centre: Tensor

    def __init__(self, settings: ParityNetworks, body: StarBody, generator: torch.Generator) -> None:
        super().__init__()
        self.settings, self.base = settings, body.base
        parents = [int(parent) for parent in body.person.arrays.parents]
        self.register_buffer("centre", (body.low + body.high).cpu() / 2, persistent=False)
        self.network = SkinNetwork(parents, settings.skin_width, settings.skin_layers, generator)
        shape = body.weights.shape[:1:-1]
        low, high = (end.cpu().double().numpy() for end in (body.low, body.high))
        self.lattice = Lattice.over(low, (high - low) / (np.array(shape) - 1), shape, body.device)
        self.template = body.weights[0].flatten(1).T

    def prepare(self, seed: int) -> None:
        """Come near the template's weights near its surface, in settings.skin_fit steps."""
        generator = torch.Generator().manual_seed(seed)
        places = self.lattice.places()
        close = torch.nonzero(self.base.at(places).abs() < FITTED_M)[:, 0]
        optimiser = torch.optim.Adam(self.parameters(), lr=FIT_RATE)
        for _ in range(self.settings.skin_fit):
            rows = close[torch.randint(len(close), (FIT_PLACES,), generator=generator).to(close.device)]
            loss = (self.at(places[rows]) - self.template[rows]).abs().sum(-1).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()

    def at(self, places: Tensor) -> Tensor:
        """Weights [P, J] at canonical places [P, 3] m."""
        found: Tensor = self.network(places - self.centre)
        return found

    def rows(self) -> Tensor:
        """Weights [N, J] on the nodes of `lattice`."""
        return torch.cat([self.at(some) for some in self.lattice.places().split(1 << 16)])

    def penalty(self) -> Tensor:
        """Mean of how far the rows are from the template's, summed over joints."""
        return (self.rows() - self.template).abs().sum(-1).mean()


@dataclass(frozen=True, eq=False)
class WayBack:
    """canonical [P, 3] m and the weights [P, J] of the last step, both with gradients."""

    canonical: Tensor
    weights: Tensor


def way_back(
    places: Tensor, start: Tensor, weights_at: Callable[[Tensor], Tensor], transforms: Tensor, iterations: int
) -> WayBack:
    """Canonical places of posed ones [P, 3] m: from weights `start` [P, J], then `iterations` times from those where
    the last step has led. transforms: [J, 3, 4] posed from canonical. Gradients belong to the last step alone."""
    rows = transforms.flatten(1)
    with torch.no_grad():
        place = inverse_applied(start @ rows, places)[0]
        for _ in range(iterations - 1):
            place = inverse_applied(weights_at(place) @ rows, places)[0]
    weights = weights_at(place)
    return WayBack(inverse_applied(weights @ rows, places)[0], weights)


def nearest_weights(places: Tensor, vertices: Tensor, weights: Tensor, count: int) -> Tensor:
    """Weights [P, J] of the `count` nearest vertices [V, 3] of places [P, 3], by the inverse of how far they are.

    weights: [V, J]. On a CUDA device the places of a small cell choose among the vertices nearest its middle.
    """
    count = min(count, len(vertices))
    with torch.no_grad():
        if not len(places):
            return places.new_zeros(0, weights.shape[1])
        if places.is_cuda:
            index, distance = _nearest_by_cells(places, vertices, count)
        else:
            index, distance = _nearest_by_tree(places, vertices, count)
        share = 1 / (distance + 1e-8)
        share = share / share.sum(1, keepdim=True)
        found = places.new_zeros(len(places), weights.shape[1])
        for column in range(count):
            found += share[:, column, None] * weights[index[:, column]]
        return found


def _nearest_by_tree(places: Tensor, vertices: Tensor, count: int) -> tuple[Tensor, Tensor]:
    from scipy.spatial import cKDTree

    distance, index = cKDTree(vertices.numpy()).query(places.numpy(), k=[*range(1, count + 1)], workers=-1)
    return torch.from_numpy(index), torch.from_numpy(distance).to(places)


def _nearest_by_cells(places: Tensor, vertices: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Index [P, count] int64 and distance [P, count] m of about the nearest vertices."""
    wide, of_wide = _cells(places, WIDE_CELL_M)
    nearest = _closest(wide, vertices, 1)[1][:, 0][of_wide]
    close = nearest < 2 * WIDE_CELL_M
    index = torch.empty(len(places), count, dtype=torch.int64, device=places.device)
    distance = places.new_empty(len(places), count)
    for which, side in ((close, CELL_M), (~close, WIDE_CELL_M)):
        some = places[which]
        if not len(some):
            continue
        middles, cell = _cells(some, side)
        among = _closest(middles, vertices, min(CANDIDATES, len(vertices)))[0]
        for part in torch.arange(len(some), device=some.device).split(max(1, AT_ONCE // CANDIDATES)):
            candidates = among[cell[part]]
            apart = (vertices[candidates] - some[part, None]).norm(dim=-1)
            best = apart.topk(count, largest=False)
            rows = torch.nonzero(which)[:, 0][part]
            index[rows], distance[rows] = candidates.gather(1, best.indices), best.values
    return index, distance


def _cells(places: Tensor, side: float) -> tuple[Tensor, Tensor]:
    """Middles [C, 3] of the cells that hold any of places [P, 3], and the cell of each [P]."""
    step = (places / side).floor().long()
    low = step.amin(0)
    size = step.amax(0) - low + 1
    flat = ((step - low)[:, 0] * size[1] + (step - low)[:, 1]) * size[2] + (step - low)[:, 2]
    kept, cell = torch.unique(flat, return_inverse=True)
    corner = torch.stack((kept // (size[1] * size[2]), kept // size[2] % size[1], kept % size[2]), -1) + low
    return (corner.to(places.dtype) + 0.5) * side, cell


def _closest(places: Tensor, vertices: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Index and distance [P, count] of the nearest vertices, a part of the places at a time."""
    found = [
        torch.cdist(some, vertices).topk(count, largest=False)
        for some in places.split(max(1, 4 * AT_ONCE // len(vertices)))
    ]
    return torch.cat([part.indices for part in found]), torch.cat([part.values for part in found])
