"""Small scenes of Gaussians and the judgement of images and gradients that the rasteriser tests share."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from avatars.gaussians.posed import PosedGaussians
from avatars.rendering import CameraBatch, Rasterised

PARAMETERS = ("means", "quats", "scales", "opacities", "features", "background")


def make_cameras(
    frames: int,
    width_px: int,
    height_px: int,
    *,
    focal: float = 1.2,
    near_m: float = 0.05,
    orthographic: bool = False,
) -> CameraBatch:
    """Cameras 2 m in front of the origin looking along +z, each a little aside of the one before."""
    K = torch.tensor([[focal * width_px, 0, width_px * 0.52], [0, focal * width_px, height_px * 0.47], [0, 0, 1]])
    pose = torch.eye(4).repeat(frames, 1, 1)
    pose[:, 2, 3] = 2.0
    pose[:, 0, 3] = 0.1 * torch.arange(frames)
    return CameraBatch(K.repeat(frames, 1, 1).float(), pose, width_px, height_px, near_m, orthographic)


def make_scene(frames: int, count: int, channels: int, *, seed: int = 0, scale_m: float = 0.06) -> dict[str, Tensor]:
    """Random parameters by the names in PARAMETERS: a ball of Gaussians around the origin."""
    rng = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=rng)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=rng)

    return {
        "means": 0.4 * normal(frames, count, 3),
        "quats": normal(frames, count, 4),
        "scales": scale_m * (0.3 + uniform(frames, count, 3)),
        "opacities": 0.05 + 0.94 * uniform(frames, count),
        "features": uniform(frames, count, channels),
        "background": uniform(frames, channels),
    }


def gaussians_of(scene: dict[str, Tensor], *, sharp: bool = False) -> PosedGaussians:
    """The geometry of a scene; colours are not used by the tests that call this."""
    means = scene["means"]
    parts = (scene["quats"], scene["scales"], scene["opacities"], torch.zeros_like(means))
    return PosedGaussians(means, *parts, sharp=sharp)


def gradients(
    render: Callable[[dict[str, Tensor]], Rasterised], scene: dict[str, Tensor], *, seed: int = 7
) -> tuple[Rasterised, dict[str, Tensor]]:
    """Render, and differentiate a random linear function of all outputs with respect to every parameter."""
    leaves = {name: tensor.detach().clone().requires_grad_() for name, tensor in scene.items()}
    image = render(leaves)
    rng = torch.Generator().manual_seed(seed)
    total = image.features.new_zeros(())
    for output in (image.features, image.alpha, image.depth):
        total = total + (output * torch.randn(output.shape, generator=rng).to(output)).sum()
    names = list(leaves)
    found = torch.autograd.grad(total, [leaves[name] for name in names], allow_unused=True)
    return image, {n: torch.zeros_like(leaves[n]) if g is None else g for n, g in zip(names, found, strict=True)}


def assert_same_image(got: Rasterised, want: Rasterised, *, rtol: float = 1e-4, atol: float = 1e-5) -> None:
    """Features, alpha and depth agree element by element."""
    for name in ("features", "alpha", "depth"):
        a, b = getattr(got, name).detach().double(), getattr(want, name).detach().double()
        torch.testing.assert_close(
            a.cpu(), b.cpu(), rtol=rtol, atol=atol, msg=lambda text, name=name: f"{name}: {text}"
        )


def assert_same_gradients(
    got: dict[str, Tensor], want: dict[str, Tensor], *, element: float = 1e-3, cosine: float = 0.999
) -> None:
    """Each gradient points the same way and no element is off by more than `element` of the largest."""
    for name, expected in want.items():
        a, b = got[name].double().cpu().flatten(), expected.double().cpu().flatten()
        assert a.shape == b.shape, name
        if not len(b):
            continue
        assert torch.isfinite(a).all(), f"{name}: not finite"
        largest = b.abs().max()
        if largest == 0:
            assert a.abs().max() == 0, f"{name}: expected no gradient"
            continue
        worst = float((a - b).abs().max() / largest)
        assert worst <= element, f"{name}: element off by {worst:.2e} of the largest"
        angle = float(torch.nn.functional.cosine_similarity(a, b, dim=0))
        assert angle >= cosine, f"{name}: cosine {angle:.6f}"
