"""The published course on a CUDA device gives what it gives on the CPU."""

from __future__ import annotations

import pytest
import torch

from avatars.captures.opening import open_capture
from avatars.surface_body.network_weights import nearest_weights
from avatars.surface_body.trainer import SurfaceTrainer
from avatars.training.config import load_config
from avatars.training.data import load_pictures
from avatars.training.optimiser import Optimiser

pytestmark = pytest.mark.cuda
SMALL = {"surface.parity.sampling.patches": "1", "surface.parity.networks.skin_fit": "20"}


@pytest.fixture(autouse=True)
def device() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")


def test_steps_and_pictures_are_those_of_the_cpu() -> None:
    capture, found = open_capture("demo_body"), []
    for name in ("cpu", "cuda"):
        trainer = SurfaceTrainer(load_config("surface_parity_tiny", SMALL), capture, name)
        pictures = load_pictures(capture, capture.split("train")[:2], 48, torch.device(name))
        batch = pictures.batch(torch.arange(2), torch.zeros(2, 3))
        picture = trainer.render(batch).features.cpu()
        optimiser, totals = Optimiser(trainer.parameters()), []
        for _ in range(6):
            trainer.volume.generator.manual_seed(7)  # the same patches in every step, or their choice decides
            total = torch.stack(list(trainer.losses(batch, 20.0).values())).sum()
            optimiser.step(total, 20.0)
            totals.append(float(total.detach()))
        assert totals[-1] < totals[0]
        found.append(picture)
    assert float((found[0] - found[1]).abs().mean()) < 2e-3


def test_nearest_vertices_by_cells_are_nearly_the_nearest() -> None:
    generator = torch.Generator().manual_seed(2)
    vertices = torch.rand(4000, 3, generator=generator)
    weights = torch.softmax(4 * vertices @ torch.randn(3, 6, generator=generator), -1)
    places = torch.cat((torch.rand(3000, 3, generator=generator), 3 * torch.rand(50, 3, generator=generator)))
    exact = nearest_weights(places, vertices, weights, 10)
    found = nearest_weights(places.cuda(), vertices.cuda(), weights.cuda(), 10).cpu()
    assert nearest_weights(places[:0].cuda(), vertices.cuda(), weights.cuda(), 10).shape == (0, weights.shape[1])
    assert float((found - exact).abs().sum(-1).mean()) < 1e-3
