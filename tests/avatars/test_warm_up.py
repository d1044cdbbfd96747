"""Compiling ahead leaves nothing to compile for training and rendering."""

from __future__ import annotations

from avatars.rendering import cpu_blend, cpu_project, cpu_tiles
from avatars.training import cpu_ssim
from avatars.warm_up import compile_kernels


def test_every_kernel_of_a_training_step_is_compiled() -> None:
    compile_kernels()
    kernels = (
        cpu_project.project,
        cpu_project.project_backward,
        cpu_tiles.list_pairs,
        cpu_tiles.fill_tiles,
        cpu_blend.blend,
        cpu_blend.blend_backward,
        cpu_blend.gather_seen,
        cpu_ssim.ssim_and_gradient,
    )
    before = [len(kernel.signatures) for kernel in kernels]
    assert all(before)
    compile_kernels()
    assert [len(kernel.signatures) for kernel in kernels] == before
