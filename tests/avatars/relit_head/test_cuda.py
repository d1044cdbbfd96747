"""Relightable heads on a CUDA device against the CPU: posing, a picture with its gradients, a short training."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from avatars.lighting.prefilter import filtered_environment
from avatars.relit_head.model import RelitHead
from avatars.relit_head.picture import lit_picture
from avatars.rendering import CameraBatch
from avatars.training.config import load_config
from avatars.training.loop import train
from tests.avatars.relit_head.files import lit_capture, lit_head, side_light
from tests.tiny import front_camera, moving

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


def on(device: str) -> RelitHead:
    model = lit_head.__wrapped__()
    torch.manual_seed(0)
    with torch.no_grad():
        model.tilt += 0.1 * torch.randn_like(model.tilt)
        model.head.colour_deltas += 0.02 * torch.randn_like(model.head.colour_deltas)
    return model.requires_grad_(True).moved_to(device)


def picture(device: str) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    model, size = on(device), 64
    motion = {name: value.to(device) for name, value in moving(2, model.head).items()}
    cameras = CameraBatch.from_cameras([front_camera(size, 0.3)] * 2, torch.device(device))
    lights = [
        (torch.arange(1) + row, filtered_environment(side_light(side), device)) for row, side in ((0, 1), (1, -1))
    ]
    drawn = lit_picture(model.pose(**motion), cameras, lights)
    named = {"colours": model.head.colours, "roughness": model.roughness, "tilt": model.tilt}
    weight = torch.linspace(0, 1, size, device=device)[None, None, :, None]
    gradients = torch.autograd.grad((drawn.features * weight).sum(), list(named.values()))
    return drawn.features.detach().cpu(), {name: g.cpu() for name, g in zip(named, gradients, strict=True)}


def test_pictures_and_gradients_are_those_of_the_cpu() -> None:
    (one, first), (two, second) = picture("cpu"), picture("cuda")
    assert float((one - two).abs().mean()) < 1e-3
    for name, gradient in first.items():
        away = (gradient - second[name]).norm() / gradient.norm()
        # Slopes of roughness come from few pixels at a slant, whose highlights end on either side of rounding (3.9 %).
        assert float(away) < 0.06, name


def test_a_short_training_ends_with_an_avatar(tmp_path: Path) -> None:
    capture = lit_capture(tmp_path / "capture", [side_light(1)])
    wanted = load_config("relit_head_tiny", {"schedule.images": "40", "losses.ssim": "0"})
    found = train(wanted, capture, tmp_path / "out", name="a", device="cuda", on_event=lambda told: None)
    assert found.state == "done"
    assert found.metrics["psnr_db"] > 10
