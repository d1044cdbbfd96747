"""Signed-distance bodies from folders of other data sets, through the commands; and what such folders get wrong."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from avatars.captures.options import amend_options
from backend.cli import main
from tests.body_layouts import write_peoplesnapshot
from tests.mocap_files import write_monocap, write_selfrecon, write_zju

FEW_STEPS = ("schedule.images=4", "surface.stages.volume=1", "surface.stages.mesh=0", "surface.paint_steps=4")
LAYOUTS: dict[str, Callable[[Path], object]] = {
    "CoreView_000": lambda folder: write_zju(folder, frames=5, cameras=3),
    "somebody_monocap": lambda folder: write_monocap(folder, frames=5, cameras=2),
    "female_1": write_selfrecon,
    "female-3-casual": write_peoplesnapshot,
}


def train(folder: Path, home: Path) -> int:
    overrides = [word for one in FEW_STEPS for word in ("--set", one)]
    usual = ["--preset", "surface_tiny", "--local", "--home", str(home), "--device", "cpu", "--name", "person"]
    return main(["train", "--capture", str(folder), *usual, *overrides])


@pytest.fixture(scope="module")
def zju(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("zju") / "CoreView_000"
    LAYOUTS[folder.name](folder)
    return folder


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_body_is_trained_and_drawn_from_each_layout(name: str, tmp_path: Path) -> None:
    LAYOUTS[name](tmp_path / name)
    assert train(tmp_path / name, tmp_path / "home") == 0
    words = ["--capture", str(tmp_path / name), "--resolution_level", "2", "--device", "cpu"]
    out = tmp_path / "out"
    assert main(["infer", "person", "--home", str(tmp_path / "home"), *words, "--output", str(out)]) == 0
    frames = json.loads((out / "frames.json").read_text())["frames"]
    assert min(row["psnr_db"] for row in frames) > 17, "the template's own surface, where the pictures have it"


def small_masks(folder: Path) -> None:
    for mask in (folder / "mask" / "Camera_B1").iterdir():
        Image.fromarray(np.zeros((64, 48), np.uint8)).save(mask)


def millimetres(folder: Path) -> None:
    amend_options(folder, {"camera_units": "m"})


def few_pictures(folder: Path) -> None:
    for camera in ("Camera_B1", "Camera_B3"):
        shutil.rmtree(folder / camera)
    for frame in (0, 1):
        (folder / "Camera_B2" / f"{frame:06d}.jpg").unlink()


def filled_masks(folder: Path) -> None:
    for mask in folder.glob("mask*/*/*.png"):
        with Image.open(mask) as image:
            size = image.size
        Image.fromarray(np.ones(size[::-1], np.uint8)).save(mask)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (small_masks, ("wrong size", "48x64", "96x128")),
        (millimetres, ("stand 3", "millimetres read as metres", '{"camera_units": "mm"}')),
        (few_pictures, ("too few views", "at least 4")),
        (filled_masks, ("leaves the box", "beside the posed template", "surface.sampling.shell_m")),
    ],
)
def test_bad_folders_are_a_sentence_before_any_work(
    zju: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    damage: Callable[[Path], None],
    said: tuple[str, ...],
) -> None:
    folder = tmp_path / zju.name
    shutil.copytree(zju, folder)
    damage(folder)
    assert train(folder, tmp_path / "home") == 2
    told = " ".join(capsys.readouterr().err.split())
    assert all(part in told for part in said), told
    assert told.count(". ") <= 2
    assert not list((tmp_path / "home").glob("library/*.avatar"))
