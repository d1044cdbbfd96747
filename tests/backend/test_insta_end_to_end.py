"""RGBAvatar's own way from an INSTA folder and its own configuration to numbers, pictures and another's motion."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from avatars.avatar_folder import load_avatar, read_description
from avatars.rgb_head.avatar import RgbHeadAvatar
from avatars.templates.opening import reference_of
from backend.cli import main
from tests.flame_installed import flame_home
from tests.insta_files import write_insta_folder
from tests.nersemble_files import write_nersemble

FRAMES = 8
CONFIG = """
data_dir: {data}
output_dir: {output}
template_type: Flame
dataset: {{pin_memory: true, use_shape_weight: true, use_pose_weight: true}}
model: {{tex_size: 48, num_basis_in: 129, num_basis_blend: 4, use_blend: true, init_scaling: 0.004, init_opacity: 0.5}}
train:
  batch_size: 2
  iteration: 1_2
  recon: {{blend_start_iter: 4, random_bg_color: true, position_lr_max_steps: 12, lambda_l1: 0.8, lambda_ssim: 0.2}}
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """data/bala (INSTA), people/… (VHAP), offline.yaml; and output/bala/run1, trained from them."""
    folder = tmp_path_factory.mktemp("original")
    with flame_home(tmp_path_factory, folder / "home"):
        (folder / "data").mkdir()
        reference = reference_of("flame2020_rgbavatar")
        write_insta_folder(folder / "data" / "bala", reference, frames=FRAMES, size=(48, 40))
        config = CONFIG.format(data=folder / "data", output=folder / "output")
        (folder / "offline.yaml").write_text(config)
        command = ["train", "--subject", "bala", "--config", str(folder / "offline.yaml"), "--work_name", "run1"]
        assert main([*command, "--device", "cpu"]) == 0
        yield folder


def test_training_follows_the_original_file(place: Path) -> None:
    result = place / "output" / "bala" / "run1"
    assert (result / "config.yaml").read_text() == (place / "offline.yaml").read_text()
    config = json.loads((result / "settings.json").read_text())["config"]
    assert (config["schedule"]["images"], config["model"]["tex_size"]) == (12, 48)
    avatar = load_avatar(result / "bala.avatar")
    assert isinstance(avatar, RgbHeadAvatar)
    assert avatar.model.layout.size() == 129
    assert avatar.model.blendshapes == 4
    assert avatar.model.driving_range.modes is not None
    assert read_description(result / "bala.avatar")["template"]["id"] == "flame2020_rgbavatar"


def test_a_folder_that_the_original_left_has_the_same_numbers(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """model.ply and config.yaml alone; whose head it is comes from the tracker's files."""
    ours, theirs = place / "output" / "bala" / "run1", place / "output" / "bala" / "theirs"
    theirs.mkdir()
    for name in ("model.ply", "config.yaml"):
        shutil.copy(ours / name, theirs / name)
    assert (ours / "flame_param.npz").is_file()
    told = []
    for work_name in ("run1", "theirs"):
        command = ["evaluate", "--subject", "bala", "--work_name", work_name, "--output_dir", str(place / "output")]
        assert main([*command, "--device", "cpu"]) == 0
        told.append([line.split()[1:] for line in capsys.readouterr().out.splitlines() if line.startswith("all")])
    assert told[0] == told[1] != []
    command = ["render", "--subject", "bala", "--work_name", "theirs", "--output_dir", str(place / "output")]
    assert main([*command, "--frames", "1", "--device", "cpu"]) == 0


def test_numbers_of_every_frame(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["evaluate", "--subject", "bala", "--work_name", "run1", "--output_dir", str(place / "output")]
    assert main([*command, "--split", "-2", "--device", "cpu"]) == 0
    assert "48x40 over black" in capsys.readouterr().out
    with np.load(place / "output" / "bala" / "run1" / "metrics.npz") as arrays:
        assert len(arrays["psnr"]) == FRAMES
        assert np.isfinite(arrays["psnr"]).all()


def render(place: Path, *options: str) -> np.ndarray:
    command = ["render", "--subject", "bala", "--work_name", "run1", "--output_dir", str(place / "output")]
    out = place / "pictures" / str(abs(hash(options)))
    assert main([*command, "--device", "cpu", "--output", str(out), *options]) == 0
    return np.stack([np.asarray(Image.open(path)) for path in sorted((out / "render_image").iterdir())]).astype(int)


def test_its_own_capture_moves_it(place: Path) -> None:
    plain = render(place)
    assert plain.shape == (FRAMES, 40, 48, 3)
    still = render(place, "--motion", str(place / "data" / "bala"), "--strength", "0")
    driven = render(place, "--motion", str(place / "data" / "bala"))
    assert np.abs(driven - plain).mean() < 0.5 * np.abs(still - plain).mean()


def test_a_flame_track_moves_it(place: Path) -> None:
    random = np.random.default_rng(0)
    track = {name: random.normal(0, 0.05, (3, n)) for name, n in (("rotation", 3), ("neck_pose", 3), ("jaw_pose", 3))}
    track |= {"expr": random.normal(0, 1, (3, 100)), "eyes_pose": np.zeros((3, 6)), "translation": np.zeros((3, 3))}
    np.savez(place / "flame_param.npz", **track)
    pictures = render(place, "--motion", str(place / "flame_param.npz"))
    assert len(pictures) == 3
    assert (pictures > 30).mean() > 0.05


def test_another_person_of_another_format_moves_it(place: Path) -> None:
    write_nersemble(place / "people", reference_of("flame2023_gaussian_avatars"))
    union = next(path for path in (place / "people").iterdir() if path.name.startswith("UNION"))
    pictures = render(place, "--motion", str(union), "--strength", "1.2")
    assert (pictures > 30).mean() > 0.05
    assert np.ptp(pictures, axis=0).max() > 20
