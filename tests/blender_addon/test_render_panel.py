"""The Render part of the sidebar: what it tells, its buttons, the command it copies."""

from __future__ import annotations

import shlex

import bpy

from blender_addon import batch
from blender_addon.engine import EffigyEngine
from blender_addon.logic import shot_text
from blender_addon.ui import classes
from blender_addon.ui.operators_render import batch_command

from .drawn import draw

PANELS = {panel.__name__: panel for panel in classes.CLASSES if "_PT_render" in panel.__name__}


def test_a_render_is_told_in_one_line() -> None:
    told = shot_text.summary(range(1, 49), (1920, 1080), 1, 1, [], 48)
    assert told == "48 frames (1-48) of 1920 x 1080 px"
    told = shot_text.summary([1, 3, 5], (64, 32), 2, 2, [0.5, 30.0, 10.0], 2)
    assert told == "3 frames (1, 3, 5) of 64 x 32 px, 2 views, 2 view layers, 2 missing, about 40 s"
    assert shot_text.summary([7], (8, 8), 1, 1, [4.0], 0) == "1 frame (7) of 8 x 8 px, all there"
    assert shot_text.summary(range(1000), (8, 8), 1, 1, [10.0], 1000).endswith("about 2.8 h")


def test_the_command_can_be_pasted() -> None:
    words = shlex.split(shot_text.command("/shots/it's a/sh 01.blend", [1, 2, 3, 8], windows=False))
    assert words[:3] == ["blender", "-b", "/shots/it's a/sh 01.blend"]
    options = batch.parser().parse_args(words[5:])
    assert (options.frames, options.missing) == ("1-3,8", True)
    assert words[3:5] == ["--command", batch.COMMAND]
    assert '"C:\\my shots\\a.blend"' in shot_text.command("C:\\my shots\\a.blend", [1], windows=True)


def test_the_part_follows_engine_file_and_disk(scene_with_avatar, tmp_path) -> None:
    scene = scene_with_avatar.context.scene
    scene.render.image_settings.file_format = "PNG"
    scene.render.filepath = str(tmp_path / "f_")
    EffigyEngine.recent_s.clear()
    main = draw(PANELS["EFFIGY_PT_render"])
    assert "3 frames (1-3) of 64 x 64 px" in " ".join(main)
    assert any("effigy.render_missing" in text for text in main)
    assert "Cryptomatte" in draw(PANELS["EFFIGY_PT_render_passes"])
    assert "Save the file" in " ".join(draw(PANELS["EFFIGY_PT_render_farm"]))
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "a shot.blend"))
    assert shlex.split(batch_command(scene))[2] == str(tmp_path / "a shot.blend")
    assert "effigy_render" in " ".join(draw(PANELS["EFFIGY_PT_render_farm"]))
    scene_with_avatar.ops.effigy.render_missing()
    assert sorted(path.name for path in tmp_path.glob("*.png")) == ["f_0001.png", "f_0002.png", "f_0003.png"]
    assert "all there" in " ".join(draw(PANELS["EFFIGY_PT_render"]))
    kept = (tmp_path / "f_0001.png").stat().st_mtime_ns
    (tmp_path / "f_0002.png").unlink()
    scene_with_avatar.ops.effigy.render_missing()
    assert (tmp_path / "f_0002.png").is_file()
    assert (tmp_path / "f_0001.png").stat().st_mtime_ns == kept
    scene.render.engine = "CYCLES"
    main = draw(PANELS["EFFIGY_PT_render"])
    assert any("effigy.use_engine" in text for text in main)
    assert any(text.startswith("effigy.composite") for text in main)
    scene_with_avatar.ops.effigy.composite()
    assert any(text.startswith("effigy.composite_remove") for text in draw(PANELS["EFFIGY_PT_render"]))
