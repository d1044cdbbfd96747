"""The head's objective beyond its image terms: when rates end, and noise on what drives the network."""

from __future__ import annotations

from dataclasses import replace

import torch

from avatars.rendering.cameras import CameraBatch
from avatars.rgb_head.objective import HeadObjective
from avatars.training.config import LossWeights, Rates, TrainConfig
from avatars.training.data import Batch
from tests.tiny import front_camera, moving, tiny_head


def test_rates_end_where_they_are_told() -> None:
    model = tiny_head(300)
    config = TrainConfig(rates=Rates(others_final=0.1))
    ends = {entry.name: entry.until_images for entry in HeadObjective(config, model).parameters()}
    assert (ends["opacities"], ends["positions"]) == (50000, 30000)
    config = TrainConfig(rates=Rates(others_final=0.1, others_until=700))
    found = {entry.name: entry for entry in HeadObjective(config, model).parameters()}
    assert (found["opacities"].until_images, found["network.0.weight"].until_images) == (700, 700)
    assert found["colours"].final_rate == 0.1 * found["colours"].start_rate


def test_noise_on_theta_is_a_function_of_the_position() -> None:
    torch.manual_seed(0)
    model = tiny_head(300)
    with torch.no_grad():
        model.colour_deltas.normal_()
    motion = moving(2, model)
    vertices = model.head.posed_vertices(**motion)
    theta = model.theta(**motion)
    batch = Batch(
        torch.rand(2, 24, 24, 4),
        CameraBatch.from_cameras([front_camera(24)] * 2),
        torch.arange(2),
        torch.zeros(2, 3),
    )
    wanted = LossWeights(sparsity=1.0)  # sees the blend weights themselves

    def sparsity(noise: float, at: float, seed: int = 0) -> float:
        config = TrainConfig(seed=seed, losses=replace(wanted, theta_noise=noise))
        objective = HeadObjective(config, model)
        return float(objective.losses(theta, model.surface(vertices), batch, at)["sparsity"].detach())

    plain = sparsity(0.0, 5000)
    assert plain == float(model.weights(theta).abs().mean().detach())
    noisy = sparsity(0.3, 5000)
    assert noisy != plain
    assert noisy == sparsity(0.3, 5000), "so a resumed run goes on as it would have"
    assert noisy != sparsity(0.3, 5010)
    assert noisy != sparsity(0.3, 5000, seed=1)
