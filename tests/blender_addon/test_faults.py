"""A callback that fails stops itself and says so; the rest goes into the log and a text block."""

from __future__ import annotations

import bpy
import pytest

from blender_addon.logic.faults import GUARDS, LIMIT, FaultLog, Guard
from blender_addon.services import log_text
from blender_addon.ui.panels_library import EFFIGY_PT_library

from .drawn import Layout


def failing() -> None:
    raise ValueError("the sky fell")


def test_a_guard_stops_after_faults_in_a_row_and_starts_again() -> None:
    log = FaultLog()
    guard = Guard("overlay", log)
    for _ in range(LIMIT - 1):
        assert guard.run(failing) is None
    assert guard.problem == "the sky fell"
    assert guard.run(lambda: 7) == 7, "a run without a fault begins the count anew"
    assert guard.problem == ""
    for _ in range(LIMIT + 3):
        guard.run(failing)
    assert guard.stopped
    assert guard.run(lambda: 7) is None, "it is not called any more"
    assert len(log.newest()) == 2 * LIMIT - 1
    assert "in failing" in log.newest()[-1].detail
    guard.retry()
    assert guard.run(lambda: 7) == 7


def test_a_part_that_fails_says_so_and_offers_the_log(addon) -> None:
    def broken(self, context) -> None:
        raise RuntimeError("no such thing")

    class Panel(EFFIGY_PT_library.__mro__[1]):
        draw_part = broken

    Panel.__name__ = "EFFIGY_PT_library"
    panel = Panel()
    for count in range(LIMIT + 1):
        panel.layout = Layout()
        panel.draw(bpy.context)
        assert "This part failed: no such thing" in panel.layout.texts
        assert ("effigy.retry" in panel.layout.texts) == (count >= LIMIT - 1)
    bpy.ops.effigy.show_log()
    text = bpy.data.texts[log_text.TEXT_NAME].as_string()
    assert "EFFIGY_PT_library: no such thing" in text
    assert "Traceback" in text
    bpy.ops.effigy.retry(name="EFFIGY_PT_library")
    assert not GUARDS.stopped()


def test_the_log_says_when_nothing_happened(addon) -> None:
    bpy.ops.effigy.show_log()
    assert "Nothing went wrong" in bpy.data.texts[log_text.TEXT_NAME].as_string()


@pytest.mark.parametrize("times", [1, 250])
def test_the_log_is_bounded(times) -> None:
    log = FaultLog()
    for index in range(times):
        log.note("x", str(index))
    assert len(log.newest()) == min(times, 100)
    assert log.newest()[-1].sentence == str(times - 1)
