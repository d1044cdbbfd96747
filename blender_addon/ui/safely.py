"""No operator traces back at the user: whatever it raises becomes one line in the status bar and an entry in the log.

`shielded` is put around the methods of every operator class by `classes.register`, so nobody has to remember it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .._shared import errors
from ..logic.faults import GUARDS

METHODS = ("invoke", "execute", "modal")
MARK = "_effigy_shielded"


def shielded(kind: type[Any]) -> type[Any]:
    """The class, with its own and inherited METHODS made safe; classes that are no operators stay as they are."""
    if not hasattr(kind, "bl_idname") or "_OT_" not in kind.__name__:
        return kind
    for name in METHODS:
        method = getattr(kind, name, None)
        if method is not None and not hasattr(method, MARK):
            setattr(kind, name, _shield(method, kind.bl_label))
    return kind


def _shield(method: Callable[..., set[str]], label: str) -> Callable[..., set[str]]:
    if method.__name__ == "execute":  # Blender counts the arguments of what it is given

        def safe(self: Any, context: Any) -> set[str]:
            return _run(self, label, method, context)
    else:

        def safe(self: Any, context: Any, event: Any) -> set[str]:
            return _run(self, label, method, context, event)

    safe.__doc__ = method.__doc__
    setattr(safe, MARK, True)
    return safe


def _run(operator: Any, label: str, method: Callable[..., set[str]], *values: Any) -> set[str]:
    try:
        return method(operator, *values)
    except errors.Cancelled as error:
        operator.report({"INFO"}, str(error))
    except errors.EffigyError as error:
        GUARDS.log.add(label, error)
        operator.report({"ERROR"}, str(error))
    except Exception as error:  # noqa: BLE001 - Blender would print a traceback into the user's face
        GUARDS.log.add(label, error)
        operator.report({"ERROR"}, f"{label} failed: {errors.first_line(error)}. Details: Effigy > Backend > Log")
    return {"CANCELLED"}
