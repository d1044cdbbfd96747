"""install.py's own decisions; that it works as a whole is shown by this suite running."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import install

ROOT = Path(__file__).resolve().parent.parent


def test_an_environment_is_made_from_the_python_behind_it(tmp_path: Path) -> None:
    """With an environment active its own Python must not be what the environment is made anew from."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "env"], check=True)
    inside = install.interpreter(tmp_path / "env")
    base = install.base_of(inside)
    assert tmp_path not in base.parents
    assert base == install.base_of(sys.executable)


def test_only_what_decides_an_environment_changes_its_stamp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(install, "ROOT", tmp_path)
    project = tmp_path / "pyproject.toml"
    project.write_text('[project]\ndependencies = ["a"]\n[tool.ruff]\nline-length = 1\n')
    python = Path(sys.executable)
    first = install.stamp_of(python)
    project.write_text('[project]\ndependencies = ["a"]\n[tool.ruff]\nline-length = 2\n')
    assert install.stamp_of(python) == first
    project.write_text('[project]\ndependencies = ["b"]\n[tool.ruff]\nline-length = 2\n')
    assert install.stamp_of(python) != first
    assert not install.up_to_date(tmp_path, first)


def test_a_python_that_only_pretends_is_passed_over(tmp_path: Path) -> None:
    shim = tmp_path / "python3.11"
    shim.write_text("#!/bin/sh\necho 'version not installed' >&2\nexit 127\n")
    shim.chmod(0o755)
    assert install.python_version(shim) is None
    assert install.python_version(tmp_path / "absent") is None
    assert install.python_version(install.base_of(sys.executable)) == sys.version_info[:2]


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["demo", "--blender", "no-such-blender"], 1, "no-such-blender does not run as a Blender"),
        (["bake"], 2, "invalid choice"),
    ],
)
def test_mistakes_are_told_in_a_sentence(arguments: list[str], status: int, words: str) -> None:
    done = subprocess.run(
        [sys.executable, "install.py", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == status
    assert words in done.stderr
    assert "Traceback" not in done.stderr
