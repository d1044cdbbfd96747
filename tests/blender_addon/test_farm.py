"""What docs/farm.md says: the table of options, and Flamenco's job type in a JavaScript engine."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from blender_addon import batch
from blender_addon.logic import frames

from .conftest import ROOT, RealBackend

FARM = ROOT / "docs" / "farm"

STUBS = """
const path = { join: (...parts) => parts.join("/") };
const tasks = [];
const made = (name, type) => ({ name, type, commands: [], dependencies: [],
    addCommand(command) { this.commands.push(command); }, addDependency(task) { this.dependencies.push(task.name); } });
const author = { Task: made, Command: (name, parameters) => ({ name, parameters }) };
const frameChunker = (text, size) => JSON.parse(process.argv[2]);
"""


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
