"""Compiling every CPU kernel of training and rendering ahead of its first use."""

from __future__ import annotations

import torch

from avatars.rendering import rasterise, rasterise_surfels, seen_colours
from avatars.rendering.benchmark import front_camera, head_like_shell
from avatars.training.losses import dssim_loss


def load_drawing_kernels() -> None:
    """Compile, or load from the cache, those CPU kernels that draw Gaussians (no gradients, no surfels)."""
    shell, camera = head_like_shell(8), front_camera(8)
    with torch.no_grad():
        rasterise(shell, camera, shell.colours, implementation="cpu")


def compile_kernels() -> None:
    """Compile, or load from the cache, all CPU kernels: about ten seconds once on a machine, then well under one.

    Worth calling before a clock is started or a first frame is awaited. Needs no GPU and changes nothing.
    """
    shell, camera = head_like_shell(8), front_camera(8)
    colours = shell.colours.clone().requires_grad_()
    image = rasterise(shell, camera, colours, implementation="cpu")
    white = torch.ones(1, 8, 8, 3)
    dssim_loss(image.features, white).backward()
    seen_colours(shell, camera, white, white[..., 0], implementation="cpu")
    rasterise_surfels(shell, camera, colours, implementation="cpu").features.sum().backward()
