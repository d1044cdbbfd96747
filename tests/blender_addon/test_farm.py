"""The scripts of docs/farm run: Slurm's with a real backend and Blender, Flamenco's job type in a JavaScript engine."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from blender_addon import batch
from blender_addon.logic import frames

from .conftest import ROOT, RealBackend, backend_python
from .test_batch import shot, shot_file  # noqa: F401 - fixtures

FARM = ROOT / "docs" / "farm"

BLENDER = """#!{python}
# The bpy module as `blender -b FILE --command effigy_render …`.
import os, sys
sys.path.insert(0, {root!r})
import bpy, blender_addon
from blender_addon import batch
assert sys.argv[1] == "-b" and sys.argv[3:5] == ["--command", batch.COMMAND], sys.argv
bpy.ops.wm.read_factory_settings(use_empty=True)
blender_addon.register()
os._exit(batch.run(["--file", sys.argv[2], *sys.argv[5:]]))
"""

STUBS = """
const path = { join: (...parts) => parts.join("/") };
const tasks = [];
const made = (name, type) => ({ name, type, commands: [], dependencies: [],
    addCommand(command) { this.commands.push(command); }, addDependency(task) { this.dependencies.push(task.name); } });
const author = { Task: made, Command: (name, parameters) => ({ name, parameters }) };
const frameChunker = (text, size) => JSON.parse(process.argv[2]);
"""


@pytest.mark.skipif(os.name == "nt", reason="Slurm runs on Linux")
def test_a_slurm_array_renders_all_frames_with_backends_of_its_own(
    home: Path,
    shot: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    blender = tmp_path / "blender"
    blender.write_text(BLENDER.format(python=sys.executable, root=str(ROOT)), encoding="utf-8")
    blender.chmod(0o755)
    environ = {
        **os.environ,
        "SHOT": str(shot),
        "AVATARS": str(home / "library"),
        "EFFIGY_PYTHON": backend_python(),
        "EFFIGY_SERVE": "--device cpu",
        "BLENDER": str(blender),
        "PYTHONPATH": str(ROOT),
        "TMPDIR": str(tmp_path),
        "SLURM_ARRAY_TASK_COUNT": "2",
    }
    for task, expected in (("1", 3), ("2", 6)):
        done = subprocess.run(
            ["sh", str(FARM / "slurm.sh")],
            env=environ | {"SLURM_ARRAY_TASK_ID": task},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        assert len(list((shot.parent / "frames").glob("*.png"))) == expected
    assert not list(tmp_path.glob("effigy.*")), "its folder is gone"


def test_the_flamenco_job_type_renders_every_chunk_and_checks(tmp_path: Path) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("no node here to run the job type in")
    settings = {
        "frames": "1-10, 20",
        "chunk_size": 4,
        "blendfile": "/shots/a b.blend",
        "render_output_path": "/out/######",
        "backend": "",
    }
    script = tmp_path / "job.js"
    source = (FARM / "effigy_render.js").read_text(encoding="utf-8")
    script.write_text(
        f"{STUBS}{source}\ncompileJob({{ settings: {json.dumps(settings)}, addTask: (task) => tasks.push(task) }});"
        "console.log(JSON.stringify({ tasks, settings: JOB_TYPE.settings }));",
        encoding="utf-8",
    )
    chunks = ["1-4", "5-8", "9,10,20"]
    done = subprocess.run([node, str(script), json.dumps(chunks)], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    *renders, check = found["tasks"]
    assert check["dependencies"] == [task["name"] for task in renders]
    rendered: list[int] = []
    for task in found["tasks"]:
        (command,) = task["commands"]
        parameters = command["parameters"]
        assert (command["name"], parameters["exe"], parameters["blendfile"]) == (
            "blender-render",
            "{blender}",
            "/shots/a b.blend",
        )
        assert parameters["args"][:2] == ["--command", batch.COMMAND]
        options = batch.parser().parse_args(parameters["args"][2:])
        assert options.output == "/out/######"
        assert (options.missing, options.check) == (task is not check, task is check)
        if task is not check:
            rendered += frames.parsed(options.frames)
    assert rendered == frames.parsed(settings["frames"]) == frames.parsed(options.frames)
    keys = {setting["key"] for setting in found["settings"]}
    assert keys == set(settings)


def test_documented_options_exist(backend: RealBackend) -> None:
    text = (ROOT / "docs" / "farm.md").read_text(encoding="utf-8")
    known = {option for action in batch.parser()._actions for option in action.option_strings}
    table = text.split("| option of")[1].split("\n\n")[0]
    documented = {word.strip("`,") for line in table.splitlines()[2:] for word in line.split() if "--" in word}
    assert {word.split()[0] for word in documented} == known - {"-h", "--help"}
