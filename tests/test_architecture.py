"""Who may import whom, what importing may do, and what every public function owes its reader (docs/architecture.md)."""

from __future__ import annotations

import ast
import importlib.util
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("shared", "avatars", "backend", "blender_addon")
ALLOWED = {
    "shared": {"shared"},
    "avatars": {"avatars", "shared"},
    "backend": {"backend", "avatars", "shared"},
    "blender_addon": {"blender_addon", "shared"},
}
SHARED_LIBRARIES = set(sys.stdlib_module_names) | {"numpy", "zmq"}
BLENDER_LIBRARIES = (
    SHARED_LIBRARIES
    | {"bpy", "bpy_extras", "mathutils", "gpu", "gpu_extras", "blf"}
    | {
        "bmesh",
        "addon_utils",
    }
)
MAX_LINES = 400


def sources(room: str) -> list[Path]:
    return sorted(path for path in (ROOT / room).rglob("*.py") if "__pycache__" not in path.parts)


def imported_roots(path: Path) -> Iterator[tuple[str, int]]:
    """Top-level package of every import of a file, also those inside functions, with its line."""
    parts = path.relative_to(ROOT).parts
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for name in node.names:
                yield name.name.split(".")[0], node.lineno
        elif isinstance(node, ast.ImportFrom):
            if node.level == 0 and node.module:
                yield node.module.split(".")[0], node.lineno
            else:  # a relative import stays inside its own room or is wrong
                yield (parts[0] if node.level < len(parts) else "outside the room"), node.lineno


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_import_only_along_the_arrows(room: str) -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {root}"
        for path in sources(room)
        for root, line in imported_roots(path)
        if (root in ROOMS or root == "outside the room") and root not in ALLOWED[room]
    ]
    assert sources(room), f"{room} has no sources"
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("room", "libraries"), [("shared", SHARED_LIBRARIES), ("blender_addon", BLENDER_LIBRARIES)], ids=["shared", "addon"]
)
def test_blender_side_uses_only_what_blender_has(room: str, libraries: set[str]) -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {root}"
        for path in sources(room)
        for root, line in imported_roots(path)
        if root not in libraries and root not in ALLOWED[room]
    ]
    assert not wrong, "\n".join(wrong)


TRITON_KERNELS = re.compile(r"cuda_\w*kernels\.py")
"""Files loaded on CUDA devices only; Triton comes with torch's CUDA builds."""


def test_importing_starts_nothing() -> None:
    """Every module of the torch side imports without threads, sockets, a CUDA context or output."""
    modules = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for room in ("shared", "avatars", "backend")
        for path in sources(room)
        if path.name != "__main__.py"
        and not (TRITON_KERNELS.fullmatch(path.name) and importlib.util.find_spec("triton") is None)
    ]
    code = (
        "import importlib, sys, threading\n"
        f"for name in {modules!r}: importlib.import_module(name)\n"
        "assert threading.active_count() == 1, threading.enumerate()\n"
        "import torch; assert not torch.cuda.is_initialized()\n"
        "import zmq; assert zmq.Context._instance is None, 'a ZeroMQ context was made'\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""


def test_server_side_of_the_backend_loads_without_torch() -> None:
    code = "import sys, backend.server, backend.jobs, backend.library; assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def public_definitions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef]:
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            yield node


@pytest.mark.parametrize("room", ROOMS)
def test_public_functions_are_typed_and_documented(room: str) -> None:
    wrong = []
    for path in sources(room):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        if not ast.get_docstring(tree):
            wrong.append(f"{path.relative_to(ROOT)}: no module docstring")
        for node in public_definitions(tree):
            if not ast.get_docstring(node):
                wrong.append(f"{path.relative_to(ROOT)}:{node.lineno} {node.name} has no docstring")
            if isinstance(node, ast.FunctionDef) and node.returns is None and not node.decorator_list:
                wrong.append(f"{path.relative_to(ROOT)}:{node.lineno} {node.name} has no return annotation")
    assert not wrong, "\n".join(wrong)


def test_files_stay_short() -> None:
    counted = [(path, len(path.read_text(encoding="utf-8").splitlines())) for room in ROOMS for path in sources(room)]
    wrong = [f"{path.relative_to(ROOT)} has {count} lines" for path, count in counted if count > MAX_LINES]
    assert not wrong, "\n".join(wrong)
