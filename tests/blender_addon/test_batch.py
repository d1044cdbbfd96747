"""Frames as a farm renders them: never half on disk, only the missing ones, and an exit status that tells."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

import numpy as np
import pytest

from blender_addon import batch
from blender_addon.logic import frames, pictures
from blender_addon.services import frame_files
from shared import errors

from . import shots
from .conftest import ROOT, RealBackend, start_backend

BATCH = """
import os, sys
import bpy
sys.path.insert(0, sys.argv[1])
import blender_addon
from blender_addon import batch
bpy.ops.wm.read_factory_settings(use_empty=True)
blender_addon.register()
from blender_addon.services import connection
told = sys.argv[2]
if told == "wait":
    @bpy.app.handlers.persistent
    def wait(scene, *_):
        print("WROTE", scene.frame_current, flush=True)
        sys.stdin.readline()
    bpy.app.handlers.render_write.insert(0, wait)
os._exit(batch.run(sys.argv[3:]))
"""


@pytest.fixture(scope="module")
def shot_file(backend: RealBackend, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A .blend with six frames of the avatar 'tiny'; its output goes to `frames/####` beside it."""
    folder = tmp_path_factory.mktemp("shot")
    code = (
        "import os, sys; sys.path.insert(0, sys.argv[1]); import bpy, blender_addon; "
        "bpy.ops.wm.read_factory_settings(use_empty=True); blender_addon.register(); "
        "from tests.blender_addon import shots; shots.set_up(bpy, 48); s = bpy.context.scene; s.frame_end = 6; "
        "s.render.image_settings.file_format = 'PNG'; s.render.filepath = '//frames/####'; "
        "bpy.ops.wm.save_as_mainfile(filepath=sys.argv[2]); sys.stdout.flush(); os._exit(0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(ROOT), str(folder / "shot.blend")],
        env={**os.environ, "EFFIGY_ADDRESS": backend.address},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder / "shot.blend"


@pytest.fixture
def shot(shot_file: Path, tmp_path: Path) -> Path:
    """The file in a folder of the test's own."""
    return Path(shutil.copy(shot_file, tmp_path / "shot.blend"))


def start(address: str, *options: str, wait: bool = False, retry_s: float = 0.3) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", BATCH, str(ROOT), "wait" if wait else "go", *options],
        env={**os.environ, "EFFIGY_ADDRESS": address, "EFFIGY_RETRY_S": str(retry_s)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def render(address: str, *options: str) -> tuple[int, str, str]:
    process = start(address, *options)
    out, err = process.communicate(timeout=240)
    return process.returncode, out, err


def names(shot: Path) -> list[str]:
    return sorted(path.name for path in (shot.parent / "frames").iterdir())


def contents(shot: Path) -> dict[str, bytes]:
    """The pixels of the frames; what comes before them in a PNG holds the time it was rendered at."""
    files = sorted((shot.parent / "frames").glob("*.png"))
    return {path.name: path.read_bytes().partition(b"IDAT")[2] for path in files}


ALL = [f"{frame:04d}.png" for frame in range(1, 7)]


def test_only_what_is_missing_or_broken_is_rendered_and_it_is_the_same_again(backend: RealBackend, shot: Path) -> None:
    status, out, err = render(backend.address, "--file", str(shot), "--missing")
    assert status == 0, err
    assert names(shot) == ALL, "and no folder of partial files"
    assert "Avatars: tiny (" in out
    assert "All 6 frames are there: 1-6." in out
    first = contents(shot)
    folder = shot.parent / "frames"
    times = {name: (folder / name).stat().st_mtime_ns for name in ALL}
    (folder / "0002.png").unlink()
    (folder / "0004.png").write_bytes(
        (folder / "0004.png").read_bytes()[:-40]
    )  # as a killed render of Blender's own leaves it
    (folder / "0005.png").write_bytes(b"")
    status, _, err = render(backend.address, "--file", str(shot), "--check")
    assert status == 1
    assert "Frames missing: 2, 4-5." in err
    status, out, err = render(backend.address, "--file", str(shot), "--missing")
    assert status == 0, err
    assert "Frames to render: 2, 4-5" in out
    assert contents(shot) == first, "another process renders the same bytes"
    assert all((folder / name).stat().st_mtime_ns == times[name] for name in ("0001.png", "0003.png", "0006.png"))


def test_chunks_render_their_frames_only(backend: RealBackend, shot: Path) -> None:
    status, _, err = render(backend.address, "--file", str(shot), "--chunk", "2/3")
    assert status == 0, err
    assert names(shot) == ["0003.png", "0004.png"]


def test_a_killed_render_leaves_no_broken_frame_and_the_next_cleans_up(backend: RealBackend, shot: Path) -> None:
    process = start(backend.address, "--file", str(shot), wait=True)
    for line in process.stdout:
        if line.strip() == "WROTE 1":
            process.stdin.write("go on\n")
            process.stdin.flush()
        if line.strip() == "WROTE 2":
            break
    process.kill()
    process.wait()
    left = names(shot)
    assert left[1:] == ["0001.png"], left
    assert left[0].startswith(frame_files.PART)
    assert (shot.parent / "frames" / left[0] / "0002.png").stat().st_size > 0, "Blender had begun to write it"
    status, _, err = render(backend.address, "--file", str(shot), "--missing")
    assert status == 0, err
    assert names(shot) == ALL


def test_a_backend_that_goes_and_comes_back_costs_no_frame_and_no_pixel(
    home: Path, shot: Path, backend: RealBackend
) -> None:
    doomed = start_backend(home)
    process = start(doomed.address, "--file", str(shot), wait=True, retry_s=5.0)
    again = None
    for line in process.stdout:
        if line.startswith("WROTE"):
            if line.strip() == "WROTE 2":
                doomed.process.kill()
                doomed.process.wait()
            process.stdin.write("go on\n")
            process.stdin.flush()
            if line.strip() == "WROTE 2":
                time.sleep(0.8)  # the next frame looks for its backend meanwhile
                again = start_backend(home, doomed.address)
    status = process.wait(200)
    again.stop()
    assert status == 0, process.stderr.read()
    assert names(shot) == ALL
    disturbed = contents(shot)
    status, _, err = render(backend.address, "--file", str(shot))
    assert status == 0, err
    assert contents(shot) == disturbed


def test_a_backend_that_stays_away_is_told_with_all_that_is_missing(home: Path, shot: Path) -> None:
    doomed = start_backend(home)
    process = start(doomed.address, "--file", str(shot), "--frames", "1-4", wait=True)
    for line in process.stdout:
        if line.strip() == "WROTE 2":
            break
        if line.startswith("WROTE"):
            process.stdin.write("go on\n")
            process.stdin.flush()
    doomed.process.kill()
    doomed.process.wait()
    _, err = process.communicate("go on\n" * 10, timeout=240)
    assert process.returncode == 1
    assert "Frames missing: 3-4." in err
    assert f"No backend answers at {doomed.address}" in err or "lost the connection" in err
    assert names(shot) == ["0001.png", "0002.png"]


def test_a_frame_that_cannot_be_rendered_does_not_cost_the_others(scene_with_avatar, tmp_path, capfd) -> None:
    scene = scene_with_avatar.context.scene
    avatar = next(o for o in scene.objects if o.type == "ARMATURE")
    for frame, scale in ((1, 1.0), (2, -1.0), (3, 1.0)):
        avatar.scale.x = scale
        avatar.keyframe_insert("scale", index=0, frame=frame)
    scene.render.image_settings.file_format = "PNG"
    scene.render.filepath = str(tmp_path / "a b" / "ü_##")
    assert batch.run(["--frames", "1-3"]) == 1
    out, err = capfd.readouterr()
    assert sorted(path.name for path in (tmp_path / "a b").iterdir()) == ["ü_01.png", "ü_03.png"]
    assert "Frames missing: 2." in err
    assert "mirrored" in err.splitlines()[-1]
    assert out.count("Frame 2 failed") == 1, "and it is not tried again in vain"
    assert scene.render.filepath == str(tmp_path / "a b" / "ü_##")
    assert (scene.frame_start, scene.frame_end) == (1, 3)


def test_what_cannot_be_rendered_at_all_is_one_sentence(scene_with_avatar, tmp_path, capfd) -> None:
    scene = scene_with_avatar.context.scene
    for options, sentence in (
        (["--frames", "3-1"], "list of frames cannot be read"),
        (["--chunk", "4/3"], "no such part"),
        (["--chunk", "two"], "I/N"),
        (["--file", str(tmp_path / "no.blend")], "no such file"),
        (["--scene", "Nowhere"], "no scene 'Nowhere'"),
    ):
        assert batch.run(options) == 1
        _, err = capfd.readouterr()
        assert sentence in err
        assert len(err.strip().splitlines()) == 1
    if hasattr(scene.render.image_settings, "media_type"):
        scene.render.image_settings.media_type = "VIDEO"
    scene.render.image_settings.file_format = "FFMPEG"
    assert batch.run([]) == 1
    assert "is a video" in capfd.readouterr().err


def test_views_are_stored_together(scene_with_avatar, tmp_path) -> None:
    scene = scene_with_avatar.context.scene
    scene.render.use_multiview = True
    scene.render.image_settings.views_format = "INDIVIDUAL"
    scene.render.image_settings.file_format = "PNG"
    scene.render.filepath = str(tmp_path / "v_")
    assert batch.run(["--frames", "2"]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["v_0002_L.png", "v_0002_R.png"]
    (tmp_path / "v_0002_R.png").unlink()
    assert frame_files.is_done(scene, 2) is False


def test_a_failed_animation_leaves_no_placeholder(scene_with_avatar, tmp_path) -> None:
    """Blender's own placeholders would make a rerun with Overwrite off believe that the frame is there."""
    scene = scene_with_avatar.context.scene
    next(o for o in scene.objects if o.type == "ARMATURE").scale.x = -1
    scene.render.image_settings.file_format = "PNG"
    scene.render.filepath = str(tmp_path / "p_")
    scene.render.use_overwrite, scene.render.use_placeholder = False, True
    with pytest.raises(RuntimeError, match=r"Frames missing: 1-3\."):
        scene_with_avatar.ops.render.render(animation=True)
    assert list(tmp_path.iterdir()) == []
    assert scene.render.filepath == str(tmp_path / "p_")


def test_lists_of_frames() -> None:
    assert frames.parsed("7, 1-3 10-20x5 30..31") == [1, 2, 3, 7, 10, 15, 20, 30, 31]
    assert frames.parsed("-2--1") == [-2, -1]
    for text in ("", "a", "1-", "3-1", "1-5x0", "1-9999999999"):
        with pytest.raises(errors.EffigyError):
            frames.parsed(text)
    parts = [frames.chunk(range(1, 12), index, 4) for index in range(1, 5)]
    assert [frame for part in parts for frame in part] == list(range(1, 12))
    assert {len(part) for part in parts} == {2, 3}


def test_pictures_cut_off_anywhere_are_not_whole(addon, tmp_path) -> None:
    pixels = np.random.default_rng(0).random((40, 24, 4)).astype(np.float32)
    image = addon.data.images.new("i", 24, 40, float_buffer=True)
    image.pixels.foreach_set(pixels.ravel())
    scene = addon.context.scene
    settings = scene.render.image_settings
    for kind, codec in (("PNG", ""), ("JPEG", ""), ("WEBP", ""), ("OPEN_EXR", "ZIP"), ("OPEN_EXR", "PIZ")):
        settings.file_format = kind
        if codec:
            settings.exr_codec = codec
        path = tmp_path / f"{kind}{codec}"
        image.save_render(str(path), scene=scene)
        assert pictures.is_whole(path), kind
        whole = path.read_bytes()
        for cut in (*range(0, min(len(whole), 900), 7), len(whole) - 1):
            path.write_bytes(whole[:cut])
            assert not pictures.is_whole(path) or (cut == len(whole) - 1 and kind == "OPEN_EXR"), (kind, cut)
    assert not pictures.is_whole(tmp_path / "absent.png")
    (tmp_path / "odd.exr").write_bytes(struct.pack("<II", 20000630, 2) + b"\0" * 64)
    assert not pictures.is_whole(tmp_path / "odd.exr")
    (tmp_path / "not.png").write_bytes(b"something else altogether")
    assert not pictures.is_whole(tmp_path / "not.png")
    (tmp_path / "other.tif").write_bytes(zlib.compress(b"anything"))
    assert pictures.is_whole(tmp_path / "other.tif")


def test_multilayer_files_are_judged_too(scene_with_avatar, tmp_path) -> None:
    scene_with_avatar.context.view_layer.use_pass_z = True
    for interleave in (True, False):
        path = tmp_path / f"m{interleave}.exr"
        shots.render_exr(path)
        settings = scene_with_avatar.context.scene.render.image_settings
        if not interleave and hasattr(settings, "use_exr_interleave"):
            settings.use_exr_interleave = False
            scene_with_avatar.ops.render.render(write_still=True)
        assert pictures.is_whole(path)
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
        assert not pictures.is_whole(path)
