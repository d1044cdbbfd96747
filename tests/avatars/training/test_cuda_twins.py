"""Training's Triton kernels against their torch references: SSIM, L1, compositing, Adam."""

from __future__ import annotations

import pytest
import torch

from avatars.rgb_head.benchmark import HeadBench
from avatars.rgb_head.objective import HeadObjective
from avatars.training import cuda_adam, cuda_images
from avatars.training.optimiser import EPSILON
from avatars.training.ssim import C1, C2, gaussian_taps, ssim_terms

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


@pytest.mark.parametrize("shape", [(2, 13, 17, 3), (1, 6, 5, 1), (7, 200, 312, 3)])
def test_ssim_and_its_gradient(shape: tuple[int, ...]) -> None:
    draw = torch.Generator("cuda").manual_seed(0)
    images = torch.rand(*shape, generator=draw, device="cuda").requires_grad_()
    targets = (images.detach() + 0.2 * torch.randn(*shape, generator=draw, device="cuda")).clamp(0, 1)
    pull = torch.rand(shape[0], generator=draw, device="cuda")
    luminance, structure = ssim_terms(images, targets, padding=5)
    wanted = (luminance * structure).mean((1, 2, 3))
    found = cuda_images.ssim(images, targets, gaussian_taps().to(images), C1, C2)
    torch.testing.assert_close(found, wanted, atol=2e-5, rtol=0)
    slope, mine = (torch.autograd.grad((value * pull).sum(), images)[0] for value in (wanted, found))
    torch.testing.assert_close(mine / slope.abs().max(), slope / slope.abs().max(), atol=1e-4, rtol=0)


def test_ssim_of_equal_images_is_one() -> None:
    images = torch.rand(2, 20, 30, 3, device="cuda")
    torch.testing.assert_close(
        cuda_images.ssim(images, images, gaussian_taps().to(images), C1, C2), torch.ones(2, device="cuda")
    )


def test_mean_absolute_difference() -> None:
    images = torch.rand(2, 33, 21, 3, device="cuda").requires_grad_()
    targets = torch.rand(2, 33, 21, 3, device="cuda")
    targets[0, 0] = images.detach()[0, 0]  # equal numbers pull neither way
    wanted, found = (images - targets).abs().mean(), cuda_images.mean_absolute(images, targets)
    torch.testing.assert_close(found, wanted)
    slope, mine = (torch.autograd.grad(value * 1.7, images)[0] for value in (wanted, found))
    torch.testing.assert_close(mine, slope)


def test_pictures_over_backgrounds() -> None:
    pixels = torch.randint(0, 256, (3, 15, 7, 4), dtype=torch.uint8, device="cuda")
    backgrounds = torch.rand(3, 3, device="cuda")
    rgba = pixels.float() / 255
    wanted = rgba[..., :3] + (1 - rgba[..., 3:]) * backgrounds[:, None, None]
    torch.testing.assert_close(cuda_images.over_background(pixels, backgrounds), wanted)


def test_adam_takes_torchs_steps() -> None:
    draw = torch.Generator("cuda").manual_seed(0)
    shapes, rates = ((5, 701), (3,), (40, 1024)), (0.01, 0.1, 0.001)
    wanted = [torch.randn(shape, generator=draw, device="cuda").requires_grad_() for shape in shapes]
    found = [value.detach().clone() for value in wanted]
    moments = [(torch.zeros_like(value), torch.zeros_like(value)) for value in found]
    groups = [{"params": [value], "lr": rate} for value, rate in zip(wanted, rates, strict=True)]
    theirs, mine = torch.optim.Adam(groups, eps=EPSILON), cuda_adam.CudaAdam(betas=(0.9, 0.999), epsilon=EPSILON)
    for steps in range(1, 20):
        for value in wanted:
            value.grad = torch.randn(value.shape, generator=draw, device="cuda") * 10.0 ** (steps % 5 - 3)
        theirs.step()
        mine.step(
            [
                cuda_adam.Update(value, target.grad, *pair, steps=steps, rate=rate)
                for value, target, pair, rate in zip(found, wanted, moments, rates, strict=True)
            ]
        )
    for value, target in zip(found, wanted, strict=True):
        torch.testing.assert_close(value, target.detach(), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("blended", [False, True])
def test_recorded_steps_give_the_same_losses_and_gradients(blended: bool) -> None:
    found = {}
    for record in (False, True):
        bench = HeadBench(2000, 64, {"ssim": 0.2, "alpha": 0.1}, "cuda", warm_up=0, deltas_from=0 if blended else 10)
        objective = HeadObjective(bench.config, bench.model, record=record)
        batch = bench.pictures.batch(torch.tensor([3, 1, 2]), torch.full((3, 3), 0.3))
        for _ in range(2):  # the second replay must not see the first one's numbers
            surface = bench.model.surface(bench.vertices, batch.frames)
            terms = objective.losses(bench.theta[batch.frames], surface, batch, 1.0)
            parameters = [entry.parameter for entry in objective.parameters()]
            total = torch.stack(list(terms.values())).sum()
            gradients = torch.autograd.grad(total, parameters, allow_unused=True)
        found[record] = (total.detach().clone(), [None if g is None else g.clone() for g in gradients])
    torch.testing.assert_close(found[True][0], found[False][0], atol=1e-6, rtol=1e-5)
    for mine, theirs in zip(found[True][1], found[False][1], strict=True):
        assert (mine is None) == (theirs is None)
        if mine is not None:
            scale = theirs.abs().max().clamp_min(1e-12)
            torch.testing.assert_close(mine / scale, theirs / scale, atol=1e-3, rtol=0)  # atomic sums differ
