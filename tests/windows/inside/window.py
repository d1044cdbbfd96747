"""What a windowed script drives Blender with: simulated typing and clicks, waiting, and grabs of the whole screen.

Methods that are generators need `yield from`: they let Blender handle events in between. Coordinates are window pixels,
y upwards, as Blender has them.
"""

from __future__ import annotations

import importlib
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import bpy
from bpy_extras.view3d_utils import location_3d_to_region_2d

STEP_S = 0.04
PATIENCE = 3.0  # times the seconds a script would wait, for a machine that is busy with other tests
KEYS = {" ": "SPACE", ".": "PERIOD", "/": "SLASH", "-": "MINUS", "_": "MINUS", ":": "SEMI_COLON", ",": "COMMA"}
DIGITS = ("ZERO", "ONE", "TWO", "THREE", "FOUR", "FIVE", "SIX", "SEVEN", "EIGHT", "NINE")


class Window:
    """Blender's first window. results: what the script found out, for the test outside."""

    def __init__(self, out: Path, arguments: list[str]) -> None:
        self.out, self.arguments = out, arguments
        self.results: dict[str, Any] = {}

    # --- places -------------------------------------------------------------------------------------------------------
    @property
    def window(self) -> Any:
        """The window that was opened first."""
        return bpy.context.window_manager.windows[0]

    def area(self, kind: str = "VIEW_3D") -> Any:
        """The first editor of that kind."""
        return next(area for area in self.window.screen.areas if area.type == kind)

    def region(self, kind: str = "WINDOW", area: Any = None) -> Any:
        """A region of the 3D view: WINDOW, UI (the sidebar), HEADER."""
        return next(region for region in (area or self.area()).regions if region.type == kind)

    @property
    def space(self) -> Any:
        """The 3D view's space."""
        return self.area().spaces.active

    def override(self, kind: str = "WINDOW") -> Any:
        """A context for operators, with the mouse over that region of the 3D view."""
        area = self.area()
        return bpy.context.temp_override(
            window=self.window, screen=self.window.screen, area=area, region=self.region(kind, area)
        )

    def addon(self, name: str = "") -> Any:
        """A module of the installed extension, such as `services.connection`; the package itself without a name."""
        return importlib.import_module("bl_ext.user_default.effigy" + (f".{name}" if name else ""))

    # --- looking ------------------------------------------------------------------------------------------------------
    def grab(self, name: str) -> Path:
        """Save the screen as OUT/NAME.png. (Blender's own screenshot operator is black under software GL.)"""
        path = self.out / f"{name}.png"
        subprocess.run(["import", "-window", "root", str(path)], check=True)
        return path

    def pixels(self, *places: tuple[float, float]) -> list[tuple[int, int, int]]:
        """Red, green and blue, 0 to 255, of the screen at these window coordinates, all of one moment."""
        command = ["import", "-window", "root", "-depth", "8", "rgb:-"]
        screen = subprocess.run(command, check=True, capture_output=True).stdout
        width = len(screen) // (3 * self.window.height)
        starts = [3 * (int(x) + width * int(self.window.height - 1 - y)) for x, y in places]
        return [tuple(screen[start : start + 3]) for start in starts]

    def pixel(self, x: float, y: float) -> tuple[int, int, int]:
        """Red, green and blue, 0 to 255, of the screen at window coordinates."""
        return self.pixels((x, y))[0]

    def place_of(self, point: Any, area: Any = None) -> tuple[float, float]:
        """Window coordinates of a point of the scene in the (first) 3D view."""
        area = area or self.area()
        region = self.region("WINDOW", area)
        at = location_3d_to_region_2d(region, area.spaces.active.region_3d, point)
        return region.x + at.x, region.y + at.y

    def wait_for(self, condition: Callable[[], Any], what: str, timeout_s: float = 20.0) -> Iterator[float]:
        """Until the condition is true; its value. Raises TimeoutError naming `what`."""
        until = time.monotonic() + PATIENCE * timeout_s
        while not (value := condition()):
            if time.monotonic() > until:
                raise TimeoutError(f"waited {PATIENCE * timeout_s} s for {what}")
            yield 0.1
        return value

    def redraw(self) -> Iterator[float]:
        """Draw every editor once more."""
        for area in self.window.screen.areas:
            area.tag_redraw()
        yield 0.2

    # --- sidebar ------------------------------------------------------------------------------------------------------
    def show_sidebar(self, tab: str = "Effigy") -> Iterator[float]:
        """Open the 3D view's sidebar at a tab (it can only be chosen once the sidebar was drawn)."""
        self.space.show_region_ui = True
        yield 0.4
        self.region("UI").active_panel_category = tab
        yield from self.redraw()

    def only_panels(self, *names: str, without: Sequence[str] = ()) -> None:
        """Show these panels and their children open, except `without` (a sidebar holds so much), and no other of
        Effigy's; no name shows all. Call before the sidebar is drawn."""
        classes = self.addon("ui.classes").CLASSES
        panels = [kind for kind in classes if issubclass(kind, bpy.types.Panel)]
        for kind in reversed(panels):
            bpy.utils.unregister_class(kind)
        for kind in panels:
            if not hasattr(kind, "_real_poll"):
                kind._real_poll, kind._real_options = kind.__dict__.get("poll"), set(getattr(kind, "bl_options", ()))
            top = getattr(kind, "bl_parent_id", "") or kind.__name__
            shown = (not names or kind.__name__ in names or top in names) and kind.__name__ not in without
            kind.bl_options = kind._real_options - {"DEFAULT_CLOSED"} if names and shown else kind._real_options
            if not shown:
                kind.poll = classmethod(lambda cls, context: False)
            elif kind._real_poll is not None:
                kind.poll = kind._real_poll
            elif "poll" in kind.__dict__:
                del kind.poll
            bpy.utils.register_class(kind)

    # --- mouse and keyboard -------------------------------------------------------------------------------------------
    def send(self, kind: str, value: str, x: int, y: int, **more: Any) -> None:
        """One simulated event."""
        self.window.event_simulate(type=kind, value=value, x=int(x), y=int(y), **more)

    def click(self, x: int, y: int, button: str = "LEFTMOUSE") -> Iterator[float]:
        """Move there and click."""
        self.send("MOUSEMOVE", "NOTHING", x, y)
        yield 0.1
        self.send(button, "PRESS", x, y)
        yield STEP_S
        self.send(button, "RELEASE", x, y)
        yield 0.2

    def press(self, key: str, x: int | None = None, y: int | None = None, **modifiers: bool) -> Iterator[float]:
        """Press and release a key, with the mouse over the 3D view unless told otherwise. modifiers: ctrl=True, …"""
        region = self.region()
        place = (region.x + region.width // 2 if x is None else x, region.y + region.height // 2 if y is None else y)
        self.send("MOUSEMOVE", "NOTHING", *place)
        yield STEP_S
        self.send(key, "PRESS", *place, **modifiers)
        self.send(key, "RELEASE", *place, **modifiers)
        yield 0.15

    def find_button(self, wanted: str) -> Iterator[float]:
        """(x, y) of the sidebar's button whose Python command or property path holds `wanted`, such as
        `effigy.connect` or `training.name`. The mouse is moved down the sidebar until Blender names it."""
        region = self.region("UI")
        manager, seen = bpy.context.window_manager, []
        for across in (0.45, 0.8, 0.93, 0.2, 0.74):
            x = int(region.x + region.width * across)
            for y in range(region.y + region.height - 12, region.y + 8, -9):
                self.send("MOUSEMOVE", "NOTHING", x, y)
                yield STEP_S
                for copy in (bpy.ops.ui.copy_python_command_button, bpy.ops.ui.copy_data_path_button):
                    manager.clipboard = ""
                    with self.override("UI"):
                        if copy.poll():
                            copy()
                    if manager.clipboard and wanted in manager.clipboard:
                        return x, y
                    if manager.clipboard:
                        seen.append(manager.clipboard)
        raise LookupError(f"no button {wanted!r} in the sidebar; there are {sorted(set(seen))}")

    def click_button(self, wanted: str) -> Iterator[float]:
        """Find a button of the sidebar and click it."""
        x, y = yield from self.find_button(wanted)
        yield from self.click(x, y)

    def type_into(self, wanted: str, text: str) -> Iterator[float]:
        """Find a text field of the sidebar, replace its content by typing and confirm with Return."""
        x, y = yield from self.find_button(wanted)
        yield from self.click(x, y)
        yield from self.click(x, y)
        yield from self.press("A", x, y, ctrl=True)
        for character in text:
            key = DIGITS[int(character)] if character.isdigit() else KEYS.get(character, character.upper())
            self.send(key, "PRESS", x, y, unicode=character)
            self.send(key, "RELEASE", x, y)
            yield STEP_S
        yield from self.press("RET", x, y)


def python_version() -> str:
    """Of the Python inside this Blender."""
    return ".".join(str(part) for part in sys.version_info[:2])
