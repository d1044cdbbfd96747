"""A stand-in for Blender's UILayout, which exists only with a window: it checks every name against Blender's own tables
and keeps what was shown."""

from __future__ import annotations

from types import SimpleNamespace

import bpy


class Layout:
    """Checks that each property and operator a panel shows exists; `texts` holds labels and operators, `off` those
    operators that cannot be pressed, with their properties."""

    def __init__(self, of: Layout | None = None) -> None:
        self.texts: list[str] = [] if of is None else of.texts
        self.off: list[tuple[str, SimpleNamespace]] = [] if of is None else of.off
        self.enabled = of is None or of.enabled

    def _inner(self, *_, **__) -> Layout:
        return Layout(self)

    row = column = box = split = grid_flow = _inner

    def panel(self, idname, *, default_closed=False):
        assert isinstance(default_closed, bool)
        return self._inner(idname), self._inner()

    def label(self, *, text="", icon="NONE") -> None:
        assert icon in bpy.types.UILayout.bl_rna.functions["label"].parameters["icon"].enum_items
        self.texts.append(text)

    def separator(self, **_) -> None:
        pass

    def prop(self, data, name, **options) -> None:
        assert name in data.bl_rna.properties, (data, name)
        assert set(options) <= set(bpy.types.UILayout.bl_rna.functions["prop"].parameters.keys())
        self.texts.append(name)

    def operator(self, name, *, text="", icon="NONE", emboss=True) -> SimpleNamespace:
        assert icon in bpy.types.UILayout.bl_rna.functions["operator"].parameters["icon"].enum_items
        group, _, function = name.partition(".")
        known = getattr(getattr(bpy.ops, group), function).get_rna_type().properties
        self.texts.append(f"{name} {text}".strip())
        made = _Properties(set(known.keys()))
        if not self.enabled:
            self.off.append((name, made))
        return made

    def operator_menu_enum(self, name, attribute, **_) -> None:
        assert attribute in self.operator(name).known

    def progress(self, *, factor, text) -> None:
        assert 0 <= factor <= 1
        self.texts.append(text)

    def template_list(self, list_type, _, data, name, active, index, **__) -> None:
        assert hasattr(bpy.types, list_type), "the add-on brings its own: Blender's lists come and go"
        assert name in data.bl_rna.properties
        assert index in active.bl_rna.properties
        self.texts.append(list_type)

    def template_icon(self, icon, **_) -> None:
        assert isinstance(icon, int)  # 0 without a window
        self.texts.append("picture")

    def template_ID(self, data, name, **_) -> None:  # noqa: N802 - Blender's name
        assert name in data.bl_rna.properties


class _Properties:
    def __init__(self, known: set[str]) -> None:
        object.__setattr__(self, "known", known)

    def __setattr__(self, name, value) -> None:
        assert name in self.known, name
        object.__setattr__(self, name, value)


def draw(panel, **context) -> list[str]:
    """What a panel shows in the current context."""
    return draw_whole(panel, **context).texts


def draw_whole(panel, **context) -> Layout:
    """The same, with what cannot be pressed."""
    layout = Layout()
    full = {
        name: getattr(bpy.context, name)
        for name in ("scene", "object", "view_layer", "preferences", "window_manager")
        if name not in context
    }
    kind = type(
        panel.__name__, tuple(base for base in panel.__mro__[1:] if base.__name__ == "Guarded"), dict(vars(panel))
    )
    this = object.__new__(kind)
    this.layout = layout
    around = SimpleNamespace(region=None, **full, **context)
    if "poll" in dir(panel) and not panel.poll(around):
        return layout
    # A part of the sidebar keeps its own faults from Blender; here they must come out.
    (getattr(this, "draw_part", None) or this.draw)(around)
    return layout
