"""The check before training: it finds the convention a file was written in, and says what a recording lacks."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter

from avatars.captures.capture import Capture
from avatars.captures.check import CaptureCheck, check_capture, check_folder
from avatars.captures.coverage import evenly, measure_coverage
from avatars.captures.embedded import embedded_captures
from avatars.captures.flame_axes import MODEL_FROM_FLAME_4
from avatars.captures.laid_over import varied_images
from avatars.captures.opening import open_capture
from avatars.captures.overlay import overlap, sheet
from avatars.captures.pairing import ShiftedNames
from avatars.captures.reading import (
    Reading,
    camera_from_flame,
    candidates,
    intrinsics,
    intrinsics_in_file,
    matrix_in_file,
)
from shared.errors import BadCapture
from shared.types import Camera
from tests import insta_files, nersemble_files


def finding(check: CaptureCheck, name: str) -> tuple[str, str, str]:
    found = next(item for item in check.findings if item.name == name)
    return found.state, found.found, found.do


def asked_for(do: str) -> str:
    """The JSON a finding asks to put into effigy.json."""
    return do.removeprefix("Put ").partition(" into effigy.json")[0]


def written_otherwise(capture: Capture, truth: Reading) -> Capture:
    """The capture that comes out when files are written as `truth` says and read as `capture.reading` says."""
    cameras = []
    for camera in capture.cameras:
        matrix = matrix_in_file(camera.camera_from_world() @ MODEL_FROM_FLAME_4, truth)
        K = intrinsics(intrinsics_in_file(camera.K, truth), capture.reading)
        seen = camera_from_flame(matrix, capture.reading)
        cameras.append(Camera(camera.width_px, camera.height_px, K, MODEL_FROM_FLAME_4 @ np.linalg.inv(seen)))
    return replace(capture, cameras=tuple(cameras))


def test_a_good_insta_folder_fits(insta: tuple[Path, insta_files.Truth]) -> None:
    check = check_capture(open_capture(insta[0]), 4)
    assert check.state() == "doubtful"  # six frames are few
    assert {item.name: item.state for item in check.findings if item.state != "ok"} == {"coverage": "doubtful"}
    assert check.fits[0][1] > 0.95
    assert max(value for _, value in check.fits[1:8]) < check.fits[0][1] - 0.2
    assert check.pictures[0].startswith("images/")
    assert check.sheet.dtype == np.uint8
    assert check.sheet.shape[2] == 3
    document = json.loads(json.dumps(check.as_json()))
    assert document["readings"][0]["matrix"] == "camera_from_world"
    assert document["coverage"]["yaw"]


@pytest.mark.parametrize("truth", candidates(Reading("world_from_camera", "opengl"))[1:], ids=Reading.sentence)
def test_every_other_convention_is_found_by_its_overlap(nersemble: nersemble_files.Truth, truth: Reading) -> None:
    """Files written in any other convention: the check names it, and the line for effigy.json."""
    wrong = written_otherwise(open_capture(nersemble.union), truth)
    check = check_capture(wrong, 4)
    state, found, do = finding(check, "camera axes")
    assert state == "bad"
    assert found.startswith("read as camera to world, OpenGL axes, y up")
    assert truth.sentence() in found
    asked = json.loads(asked_for(do))
    assert asked == {"reading": {"matrix": truth.matrix, "axes": truth.axes, "up": truth.up}} == check.options()
    assert max(value for _, value in check.fits) > 0.9
    assert check.state() == "bad"


@pytest.mark.parametrize("kind", ["transposed", "swapped", "half_pixel"])
def test_a_wrong_k_is_found(nersemble: nersemble_files.Truth, kind: str) -> None:
    truth = Reading("world_from_camera", "opengl", intrinsics=kind)
    check = check_capture(written_otherwise(open_capture(nersemble.union), truth), 4)
    state, found, do = finding(check, "camera matrix K")
    assert state == ("doubtful" if kind == "half_pixel" else "bad"), found
    assert kind in do


def test_what_the_check_asks_for_mends_the_folder(insta: tuple[Path, insta_files.Truth], tmp_path: Path) -> None:
    """A tracker with OpenGL axes: the check says so, the line it prints goes into effigy.json, then all is well."""
    folder = Path(shutil.copytree(insta[0], tmp_path / "bala"))
    truth = insta[1]
    for index in range(6):
        document = insta_files.frame_document(truth, index, f"{index:05d}")
        R, t = insta_files.FLIP @ truth.R[index], insta_files.FLIP @ truth.t[index]
        document["opencv"] |= {"R": R[None].astype(np.float32), "t": t[None].astype(np.float32)}
        torch.save(document, folder / "checkpoint" / f"{index:05d}.frame")
    state, _, do = finding(check_capture(open_capture(folder), 4), "camera axes")
    assert state == "bad"
    (folder / "effigy.json").write_text(asked_for(do))
    again = check_capture(open_capture(folder), 4)
    assert finding(again, "camera axes")[0] == "ok"


def test_pictures_of_the_next_frame_are_found(insta: tuple[Path, insta_files.Truth], tmp_path: Path) -> None:
    """Equal names but every picture is one frame late: no listing shows that, the overlap does."""
    folder = Path(shutil.copytree(insta[0], tmp_path / "bala"))
    pictures = sorted((folder / "images").iterdir())
    for late, early in zip(reversed(pictures[1:]), reversed(pictures[:-1]), strict=True):
        shutil.copy(early, late)
    state, found, _ = finding(check_capture(open_capture(folder), 6), "pairing")
    assert state == "bad"
    assert "fit the moment before their own better" in found


def rename_pictures(folder: Path, by: int) -> None:
    for path in sorted((folder / "images").iterdir(), reverse=by > 0):
        path.rename(path.with_name(f"{int(path.stem) + by:05d}.png"))


def test_names_off_by_one_are_tried_both_ways(insta: tuple[Path, insta_files.Truth], tmp_path: Path) -> None:
    """The check opens what training refuses, and says which way of pairing fits."""
    folder = Path(shutil.copytree(insta[0], tmp_path / "bala"))
    rename_pictures(folder, 1)
    with pytest.raises(ShiftedNames):
        open_capture(folder)
    check = check_folder(folder, 4)
    state, found, do = finding(check, "pairing")
    assert state == "bad"
    assert found.startswith("bala/images and bala/checkpoint are off by 1; overlap when paired by order 0.9")
    (folder / "effigy.json").write_text(asked_for(do))
    assert finding(check_folder(folder, 4), "pairing")[0] == "ok"


def test_equal_names_of_other_frames_are_known_from_instas_own_cameras(
    insta: tuple[Path, insta_files.Truth], tmp_path: Path
) -> None:
    """The first picture was deleted and the others moved up, also in transforms.json: equal names, other frames."""
    folder = Path(shutil.copytree(insta[0], tmp_path / "bala"))
    (folder / "images" / "00000.png").unlink()
    rename_pictures(folder, -1)
    document = json.loads((folder / "transforms.json").read_text())
    document["frames"] = [
        entry | {"file_path": f"images/{row:05d}.png"} for row, entry in enumerate(document["frames"][1:])
    ]
    (folder / "transforms.json").write_text(json.dumps(document))
    with pytest.raises(BadCapture) as caught:
        open_capture(folder)
    assert str(caught.value).startswith(
        "pictures and frames of bala are off by 1 (found 00000.png beside 00000.frame; expected 00001.frame, whose "
        "camera transforms.json gives that picture)."
    )
    state, found, do = finding(check_folder(folder, 4), "pairing")
    assert (state, do) == ("bad", caught.value.do)
    assert "pictures and frames of bala are off by 1" in found
    assert open_capture(insta[0]).notes[1] == "transforms.json has the tracker's cameras"


def test_hair_and_clothes_outside_the_template_do_no_harm(
    insta: tuple[Path, insta_files.Truth], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(insta[0], tmp_path / "bala"))
    for path in (folder / "images").iterdir():
        picture = Image.open(path)
        mask = picture.getchannel("A").filter(ImageFilter.MaxFilter(7))  # about 3 px around a head of 20
        picture.putalpha(mask)
        picture.save(path)
    check = check_capture(open_capture(folder), 4)
    assert 0.6 < check.fits[0][1] < 0.85
    assert finding(check, "camera axes")[0] == "ok"
    assert finding(check, "pairing")[0] == "ok"
    wrong = written_otherwise(open_capture(folder), Reading("camera_from_world", "opengl"))
    found = finding(check_capture(wrong, 4), "camera axes")[1]
    assert "as world to camera, OpenGL axes, y up" in found
    assert finding(check_capture(wrong, 4), "coverage")[1].startswith("not known")


def test_masks_that_are_empty_or_cover_everything_are_named(
    insta: tuple[Path, insta_files.Truth], tmp_path: Path
) -> None:
    for value, words in ((0, "is empty"), (255, "covers everything")):
        folder = Path(shutil.copytree(insta[0], tmp_path / f"bala{value}"))
        for path in (folder / "images").iterdir():
            picture = Image.open(path)
            picture.putalpha(value)
            picture.save(path)
        check = check_capture(open_capture(folder), 3)
        state, found, _ = finding(check, "mask")
        assert state == "bad"
        assert words in found
        if value == 0:
            assert finding(check, "camera axes")[0] == "bad"


def test_an_unlikely_lens_and_distance_are_doubted(insta: tuple[Path, insta_files.Truth]) -> None:
    capture = open_capture(insta[0])
    camera = capture.cameras[0]
    wide = replace(camera, K=camera.K * np.array([[0.2], [0.2], [1]]))
    state, found, _ = finding(check_capture(replace(capture, cameras=(wide,)), 2), "focal length")
    assert state == "doubtful"
    assert "unusual: an angle of view" in found
    far = camera.world_from_camera.copy()
    far[1, 3] -= 30
    state, found, _ = finding(
        check_capture(replace(capture, cameras=(replace(camera, world_from_camera=far),)), 2), "distance"
    )
    assert state == "doubtful"


def test_coverage_says_what_is_never_shown(insta: tuple[Path, insta_files.Truth]) -> None:
    capture = open_capture(insta[0])
    seen = measure_coverage(capture)
    assert sum(seen.yaw.values()) == len(capture.split("train"))
    assert set(seen.yaw) <= {-45, -30, -15, 0, 15, 30}
    assert seen.ranges["jaw_deg"][1] > 8
    assert seen.active >= 8
    assert not any("eyes never close" in text or "mouth" in text for text in seen.missing)
    still = replace(
        capture,
        motion=replace(
            capture.motion,
            rotations=np.zeros_like(capture.motion.rotations),
            expressions=np.zeros_like(capture.motion.expressions),
        ),
    )
    text = "; ".join(measure_coverage(still).missing)
    for words in (
        "its right side",
        "its left side",
        "mouth never opens",
        "eyes never close",
        "look aside",
        "hardly moves",
    ):
        assert words in text
    assert seen.held_out_beyond >= 0


def test_sides_are_named_as_the_head_has_them(nersemble: nersemble_files.Truth) -> None:
    """Cameras 3 and 12 of the export stand at -60 and +48 degrees about +y: from its right, and from its left."""
    capture = open_capture(nersemble.union)
    names = capture.camera_names
    only = tuple(image for image in capture.images if names[image.camera] != "12" or image.split != "train")
    text = "; ".join(measure_coverage(replace(capture, images=only)).missing)
    assert "its left side is seen" in text
    assert "its right side is seen" not in text


def test_pictures_are_chosen_for_their_variety() -> None:
    assert evenly(range(10), 3) == [0, 4, 9]
    assert evenly([], 3) == []
    assert evenly([7], 5) == [7]
    if "demo_head" in embedded_captures():
        capture = open_capture("demo_head")
        chosen = varied_images(capture, 6)
        assert len(set(chosen)) == 6
        assert len({capture.images[index].camera for index in chosen}) >= 4


def test_overlap_and_sheet_of_nothing() -> None:
    nothing, all_of_it = np.zeros((4, 4), bool), np.ones((4, 4), bool)
    assert overlap(nothing, nothing) == 0
    assert overlap(all_of_it, all_of_it) == 1
    assert overlap(all_of_it, nothing) == 0
    assert sheet(["nothing"], []).shape[2] == 3


def test_the_embedded_capture_passes() -> None:
    if "demo_head" not in embedded_captures():
        pytest.skip("no embedded capture here")
    check = check_capture(open_capture("demo_head"), 2)
    assert finding(check, "camera axes")[0] == "ok"
    assert finding(check, "pairing")[0] == "ok"
