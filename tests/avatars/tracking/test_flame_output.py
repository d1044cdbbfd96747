"""A head of our template as FLAME's parameters, written as GaussianAvatars' folders are and read again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from avatars.captures.opening import open_capture
from avatars.rgb_head.head_template import HeadTemplate
from avatars.templates.installed import installed_arrays
from avatars.templates.opening import embedded_template
from avatars.templates.template import Template
from avatars.tracking.flame_folder import write_flame_folder
from avatars.tracking.flame_output import fit_flame
from backend import cli_track
from shared.errors import BadConfig, BadTemplate
from shared.template import joint_transforms, rest, skin
from shared.types import Motion
from tests.flame_installed import flame_home

FRAMES = (0, 60, 150, 240, 330)


def test_a_head_goes_out_as_flame_and_comes_in_again(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    talking = open_capture("talking_head")
    motion = talking.motion
    chosen = list(FRAMES)
    capture = replace(
        talking,
        motion=Motion(motion.rotations[chosen], motion.translations[chosen], motion.expressions[chosen], motion.fps),
        images=tuple(
            replace(talking.images[frame], frame=row, split="test" if row == 4 else "train")
            for row, frame in enumerate(FRAMES)
        ),
    )
    with flame_home(tmp_path_factory, tmp_path / "home", ("2023",)):
        flame = installed_arrays("flame2023_gaussian_avatars")
        fit = fit_flame(capture, flame)
        assert fit.neutral_mm < 3
        write_flame_folder(capture, fit.params, tmp_path / "head")
        again = open_capture(tmp_path / "head")
        assert again.layout == "nersemble"
        assert [image.split for image in again.images].count("test") == 1
        np.testing.assert_allclose(again.cameras[0].K, capture.cameras[0].K, atol=1e-3)
        np.testing.assert_allclose(again.cameras[0].world_from_camera, capture.cameras[0].world_from_camera, atol=1e-6)
        head = HeadTemplate.make(Template(again.template.open()), "", again.template.shape, None)
        with torch.no_grad():
            posed = head.posed_vertices(
                torch.from_numpy(np.array(again.motion.rotations, np.float32)),
                torch.from_numpy(np.array(again.motion.translations, np.float32)),
                torch.from_numpy(np.array(again.motion.expressions, np.float32)),
            ).numpy()
        ours = capture.template.open()
        for row in range(len(FRAMES)):
            numbers = {"preset": capture.template.preset, "shape": np.array(capture.template.shape, np.float32)}
            vertices, joints = rest(ours, **numbers, expression=capture.motion.expressions[row])
            turned, moved = capture.motion.rotations[row], capture.motion.translations[row]
            skinning, _ = joint_transforms(turned, joints, ours.parents, moved)
            truth = skin(vertices[fit.on], ours.weights[fit.on], skinning)
            apart = np.linalg.norm(posed[row][fit.face] - truth, axis=1)
            assert apart.mean() < 0.0035
            assert fit.apart_mm[row] < 1
            assert again.rgba(row).shape == capture.rgba(row).shape
    with pytest.raises(BadTemplate, match="not FLAME"):
        fit_flame(capture, embedded_template("bust"))


def test_the_command_refuses_what_it_cannot_write(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    with flame_home(tmp_path_factory, tmp_path / "home", ("2023",)):
        with pytest.raises(BadConfig, match="FLAME 2023"):
            cli_track.flame_template("flame2020", body=False)
        with pytest.raises(BadConfig, match="for heads"):
            cli_track.flame_template("flame2023", body=True)
        assert cli_track.flame_template("flame2023_gaussian_avatars", body=False).view == "head"
