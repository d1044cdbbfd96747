"""A device without memory costs one picture at most, never the worker: what is kept is let go and it is drawn again."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from backend.library import Library
from backend.render_worker import failed_at
from backend.rendering import Studio
from tests.shared.samples import samples


@pytest.mark.parametrize("refusals", [0, 1, 2])
def test_a_full_device_is_asked_once_more_with_nothing_kept(
    refusals: int, avatar_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(avatar_folder, tmp_path / "tiny.avatar")
    studio = Studio(Library(tmp_path), "cpu")
    studio.avatar("tiny")
    kept = []

    def draw(request: Any) -> str:
        kept.append(len(studio._avatars))
        if len(kept) <= refusals:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")
        return "picture"

    monkeypatch.setattr(studio, "_draw", draw)
    request = samples()["RenderRequest"]
    if refusals < 2:
        assert studio.render(request) == "picture"
    else:
        with pytest.raises(torch.OutOfMemoryError) as caught:
            studio.render(request)
        said = failed_at(request, caught.value, "logs/render.log")
        assert "could not be rendered (found CUDA out of memory" in str(said.error())
        assert "Ask for a smaller picture" in str(said.error())
    assert kept == [1, 0][: len(kept)]
