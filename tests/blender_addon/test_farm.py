"""What docs/farm.md says: the table of options, and Flamenco's job type and the commands it makes."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from blender_addon import batch

from .conftest import ROOT, RealBackend, backend_python
from .fake_blender import blender_at
from .test_batch import shot, shot_file  # noqa: F401 - fixtures

FARM = ROOT / "docs" / "farm"

MANAGER = """
// What flamenco-manager 3 offers its job types (internal/manager/job_compilers), as far as this one uses it.
const posix = require("path").posix;
const path = { join: posix.join, dirname: posix.dirname, basename: (name) => posix.basename(name),
    stem: (name) => posix.basename(name, posix.extname(name)) };
const alerts = [], tasks = [];
const alert = (text) => alerts.push(text), print = () => {};
class Task {
    constructor(name, type) { Object.assign(this, { name, type, commands: [], dependencies: [] }); }
    addCommand(command) { this.commands.push(command); }
    addDependency(task) { this.dependencies.push(task.name); }
}
const author = { Task: (name, type) => new Task(name, type), Command: (name, parameters) => ({ name, parameters }) };
function frameChunker(text, size) {
    const frames = [];
    for (const part of text.split(",")) {
        const [first, last] = part.trim().split("-").map(Number);
        for (let frame = first; frame <= (last || first); frame++) frames.push(frame);
    }
    const chunks = [];
    for (let at = 0; at < frames.length; at += size) chunks.push(frames.slice(at, at + size).join(","));
    return chunks;
}
"""


def compiled(folder: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """Tasks, alerts and the job type's settings."""
    node = shutil.which("node")
    if node is None:  # Debian's package nodejs brings it
        pytest.skip("no node here to run the job type in")
    source = (FARM / "effigy_render.js").read_text(encoding="utf-8")
    script = folder / "job.js"
    script.write_text(
        f"{MANAGER}{source}\ncompileJob({{ settings: {json.dumps(settings)}, addTask: (task) => tasks.push(task) }});"
        "console.log(JSON.stringify({ tasks, alerts, settings: JOB_TYPE.settings }));",
        encoding="utf-8",
    )
    done = subprocess.run([node, str(script)], capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def command_line(command: dict[str, Any], variables: dict[str, str]) -> list[str]:
    """What flamenco-worker 3 starts for a command (internal/worker/command_blender.go and command_ffmpeg.go)."""
    given = command["parameters"]
    exe = variables[given["exe"]]
    if command["name"] == "blender-render":
        before = [*shlex.split(variables[given["exeArgs"]]), *given["argsBefore"]]
        return [exe, *before, given["blendfile"], *given["args"]]
    assert command["name"] == "frames-to-video"
    rate = ["-r", str(given["fps"])]
    reading = [*rate, "-pattern_type", "glob", "-i", given["inputGlob"]]
    return [exe, *given["argsBefore"], *reading, *given["args"], *rate, given["outputFile"]]


def test_a_flamenco_job_renders_checks_and_joins_the_frames(
    backend: RealBackend,
    addon: Any,
    shot: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    (tmp_path / "out put").mkdir()
    settings = {
        "frames": "1-3, 6",
        "chunk_size": 3,
        "render_output_path": str(tmp_path / "out put" / "f_###"),
        "avatars": "",
        "backend": backend.address,
        "video": True,
        "fps": 24,
        "image_file_extension": ".png",
        "scene": "Scene",
        "blendfile": str(shot),
    }
    job = compiled(tmp_path, settings)
    assert {setting["key"] for setting in job["settings"]} == set(settings)
    # Values that the Flamenco add-on works out in the artist's Blender.
    addon.ops.wm.open_mainfile(filepath=str(shot))
    names = {"C": addon.context, "bpy": addon}
    evaluated = {each["key"]: eval(each["eval"], names) for each in job["settings"] if "eval" in each}  # noqa: S307
    assert evaluated["frames"] == "1-6"
    assert evaluated["avatars"] == ", ".join(f"{name}={digest}" for name, digest in batch.pinned(addon.context.scene))
    assert evaluated["avatars"].startswith("tiny=")
    assert (evaluated["fps"], evaluated["image_file_extension"], evaluated["scene"]) == (24, ".png", "Scene")

    settings["avatars"] = evaluated["avatars"]
    first, second, check, film = compiled(tmp_path, settings)["tasks"]
    assert [task["type"] for task in (first, second, check, film)] == ["blender", "blender", "blender", "ffmpeg"]
    assert check["dependencies"] == [first["name"], second["name"]]
    assert film["dependencies"] == [check["name"]]
    code = "import imageio_ffmpeg; print(imageio_ffmpeg.get_ffmpeg_exe())"
    ffmpeg = subprocess.run([backend_python(), "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    variables = {"{blender}": str(blender_at(tmp_path)), "{blenderArgs}": "-b -y", "ffmpeg": ffmpeg}

    def run(task: dict[str, Any]) -> tuple[int, str]:
        (command,) = task["commands"]
        line = command_line(command, variables)
        done = subprocess.run(line, capture_output=True, text=True, check=False, timeout=240, cwd=tmp_path)
        return done.returncode, done.stderr

    status, said = run(first)
    assert status == 0, said
    status, said = run(check)
    assert status == 1
    assert "Frames missing: 6" in said
    for task in (second, check, film):
        status, said = run(task)
        assert status == 0, said
    made = sorted(path.name for path in (tmp_path / "out put").iterdir())
    assert made == ["f_001.png", "f_002.png", "f_003.png", "f_006.png", "shot-1-3,6.mp4"]

    other = compiled(tmp_path, settings | {"avatars": f"tiny={'0' * 64}", "image_file_extension": ".EXR"})
    assert [task["name"] for task in other["tasks"]][-1] == "check"
    assert other["alerts"], "that there is no film"
    status, said = run(other["tasks"][0])
    assert status == 1
    assert "another version of avatar tiny" in said


def test_documented_options_exist(backend: RealBackend) -> None:
    text = (ROOT / "docs" / "farm.md").read_text(encoding="utf-8")
    known = {option for action in batch.parser()._actions for option in action.option_strings}
    table = text.split("| option of")[1].split("\n\n")[0]
    documented = {word.strip("`,") for line in table.splitlines()[2:] for word in line.split() if "--" in word}
    assert {word.split()[0] for word in documented} == known - {"-h", "--help"}
