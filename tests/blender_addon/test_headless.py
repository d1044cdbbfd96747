"""Blender without a window, as a child process: what a farm sees when all is well and when the backend is not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from .conftest import ROOT, RealBackend, start_backend

SHOT = """
import os, sys
import bpy
sys.path.insert(0, sys.argv[1])
import blender_addon
bpy.ops.wm.read_factory_settings(use_empty=True)
blender_addon.register()
from tests.blender_addon import shots
folder, last, keep = sys.argv[2], int(sys.argv[3]), sys.argv[4] == "keep"
shots.set_up(bpy, 48)
scene = bpy.context.scene
scene.frame_end = last
scene.render.image_settings.file_format = "PNG"
scene.render.use_overwrite = not keep
scene.render.filepath = os.path.join(folder, "####")
def told(*_):
    print("WROTE", scene.frame_current, flush=True)
    if len(sys.argv) > 5 and scene.frame_current == int(sys.argv[5]):
        sys.stdin.readline()  # the test kills the backend now
bpy.app.handlers.render_write.append(told)
try:
    bpy.ops.render.render(animation=True)
except RuntimeError as error:
    print(error, file=sys.stderr, flush=True)
    os._exit(1)
os._exit(0)
"""


def shot(address: str, folder: Path, last: int, keep: str = "", pause_after: str = "") -> subprocess.Popen[str]:
    arguments = [str(ROOT), str(folder), str(last), keep or "overwrite", *([pause_after] if pause_after else [])]
    return subprocess.Popen(
        [sys.executable, "-c", SHOT, *arguments],
        env={**os.environ, "EFFIGY_ADDRESS": address, "EFFIGY_RETRY_S": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_killed_backend_ends_the_animation_with_the_missing_frames_and_a_rerun_fills_them(home, tmp_path) -> None:
    doomed = start_backend(home)
    process = shot(doomed.address, tmp_path, 6, pause_after="2")
    for line in process.stdout:
        if line.strip() == "WROTE 2":
            break
    doomed.process.kill()
    doomed.process.wait()
    out, errors = process.communicate("go on\n", timeout=200)
    assert process.returncode == 1, out
    assert f"No backend answers at {doomed.address}" in errors or "lost the connection" in errors
    assert "Frames missing: 3-6." in errors
    done = sorted(path.name for path in tmp_path.glob("*.png"))
    assert done == ["0001.png", "0002.png"]

    before = {name: (tmp_path / name).stat().st_mtime_ns for name in done}
    again = start_backend(home, doomed.address)
    try:
        _, errors = shot(again.address, tmp_path, 6, keep="keep").communicate(timeout=200)
    finally:
        again.stop()
    assert sorted(path.name for path in tmp_path.glob("*.png")) == [f"{n:04d}.png" for n in range(1, 7)], errors
    assert {name: (tmp_path / name).stat().st_mtime_ns for name in done} == before, "what was done is not done again"


def demo(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "blender_addon" / "demo_scene.py"), "--", *arguments]
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environ["EFFIGY_RETRY_S"] = "1"
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environ, timeout=240)


def test_the_demo_scene_leaves_pictures_video_and_blend(backend: RealBackend, tmp_path) -> None:
    arguments = ["--address", backend.address, "--avatar", "tiny", "--output", str(tmp_path / "out put")]
    done = demo(*arguments, "--frames", "4", "--size", "64")
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "out put"
    assert [path.name for path in sorted((folder / "frames").iterdir())] == [f"{n:04d}.png" for n in range(1, 5)]
    assert len(list((folder / "stills").glob("*.png"))) == 3
    assert (folder / "animation.mp4").read_bytes()[4:8] == b"ftyp"
    assert (folder / "scene.blend").stat().st_size > 10_000
    told = [
        json.loads(line.split(" ", 1)[1]) for line in done.stdout.splitlines() if line.startswith("EFFIGY_PROGRESS")
    ]
    assert [step["done"] for step in told if step["stage"] == "frames"] == [1, 2, 3, 4]
    assert told[-1] == {"stage": "video", "done": 1, "total": 1}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"--address": "tcp://127.0.0.1:9"}, "No backend answers at tcp://127.0.0.1:9"),
        ({"--avatar": "nobody"}, "nobody"),
        ({"--hdri": "moon"}, "There is no HDRI 'moon'"),
    ],
)
def test_the_demo_scene_fails_in_one_sentence(backend: RealBackend, tmp_path, change, sentence) -> None:
    options = {"--address": backend.address, "--avatar": "tiny", "--output": str(tmp_path), "--frames": "2"} | change
    begin = time.monotonic()
    done = demo(*(part for pair in options.items() for part in pair))
    assert done.returncode == 1, done.stdout
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("The demo scene failed:")
    assert sentence in last
    assert "Traceback" not in done.stderr
    assert time.monotonic() - begin < 120
