"""Fixtures of the add-on's tests. They run inside the bpy module's own environment, never beside torch."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

HAS_BPY = find_spec("bpy") is not None
if HAS_BPY:  # puts bpy_extras, mathutils and gpu on the path as well
    import bpy

ROOT = Path(__file__).resolve().parents[2]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.blender)


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Elsewhere than beside bpy there is nothing to test here; `python install.py test` runs both halves."""
    return None if HAS_BPY else True


@pytest.fixture
def addon() -> Iterator[object]:
    """The add-on registered from source in an empty file."""
    import blender_addon

    bpy.ops.wm.read_factory_settings(use_empty=True)
    blender_addon.register()
    yield bpy
    blender_addon.unregister()
    sys.stdout.flush()
