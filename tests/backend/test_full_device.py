"""A device without memory costs a picture, a batch's size or a job that is refused, never a worker that dies."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from backend import errand_worker, online_worker, train_worker
from backend.benchmark_wire import small_avatar
from backend.library import Library
from backend.render_worker import failed_at
from backend.rendering import Studio
from shared import messages as m
from shared.wire import Envelope
from tests.shared.samples import samples
from tests.tiny import tiny_capture

FULL = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


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


class Link:
    """A worker's connection to its server that hands over these requests, and then none."""

    def __init__(self, *asked: Any) -> None:
        self.waiting, self.sent = list(asked), [Any][:0]

    def receive(self, timeout_s: float) -> Envelope | None:
        return Envelope(self.waiting.pop(0), 1, "") if self.waiting else None

    def send(self, message: Any, request_id: int = 0) -> None:
        self.sent.append(message)

    def close(self) -> None:
        pass


@pytest.mark.parametrize(
    ("worker", "breaks", "asked", "do"),
    [
        (train_worker, "run_training", ["StartTraining"], "smaller pictures or fewer Gaussians, then resume the job"),
        (train_worker, "run_edit", ["StartEdit"], "smaller pictures or fewer Gaussians, then resume the job"),
        (online_worker, "LiveJob", ["StartOnline"], "choose a smaller preset"),
        (errand_worker, "run_errand", ["StartExport", "StartImport"], "then ask again"),
    ],
    ids=["training", "edit", "live", "errands"],
)
def test_a_job_without_memory_is_refused_and_its_worker_ends_well(
    worker: Any, breaks: str, asked: list[str], do: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Outside of a training's steps, which take smaller batches, as while a model is made or a capture is loaded."""
    link = Link(*(samples()[name] for name in asked))

    def full(*_: object, **__: object) -> None:
        raise FULL

    monkeypatch.setattr(worker, breaks, full)
    monkeypatch.setattr(worker, "join_server", lambda arguments: link)
    monkeypatch.setattr(sys, "argv", ["worker", "--name", "it", "--home", str(tmp_path), "--device", "cpu"])
    assert worker.main() == 0
    failures = [message for message in link.sent if isinstance(message, m.Failure)]
    assert len(failures) == len(asked), "each is answered"
    for failure in failures:
        said = str(failure.error())
        assert said.startswith("The device has not enough memory for this ")
        assert "(found CUDA out of memory. Tried to allocate 20.00 MiB)" in said
        assert do in said


@pytest.fixture
def whole_device() -> Iterator[int]:
    """Bytes of the CUDA device; a share that a test leaves this process is given back after it."""
    yield torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(1.0)
    torch.cuda.empty_cache()


def most_allocated(work: Any) -> int:
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    work()
    return torch.cuda.max_memory_allocated()


@pytest.mark.cuda
@needs_cuda
def test_a_training_on_a_device_that_is_too_small_takes_smaller_batches(tmp_path: Path, whole_device: int) -> None:
    from avatars.captures.opening import open_capture
    from avatars.training.config import load_config
    from avatars.training.loop import train

    capture = open_capture(tiny_capture(tmp_path / "capture", size=512, frames=4, cameras=4, gaussians=600))
    events: list[Any] = []

    def run(batch: int, images: int, name: str) -> Any:
        settings = {"schedule.images": str(images), "schedule.batch": str(batch), "schedule.sizes_px": "[512]"}
        settings |= {"schedule.stages_from": "[0]", "size_px": "512", "reporting.curve_points": "0"}
        config = load_config("tiny", settings)
        return train(config, capture, tmp_path / name, name="it", device="cuda", on_event=events.append)

    large, small = (most_allocated(lambda n=n: run(n, n, f"free {n}")) for n in (32, 4))
    assert large > small
    events.clear()
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction((large + small) / 2 / whole_device)
    done = run(32, 64, "full")
    assert done.state == "done"
    assert done.metrics["images"] == 64
    assert any("The device was out of memory; batches of" in event.message for event in events)
    assert done.avatar_folder.is_dir()


@pytest.mark.cuda
@needs_cuda
def test_a_picture_for_which_a_device_is_too_small_is_refused_and_the_next_is_drawn(
    tmp_path: Path, whole_device: int
) -> None:
    small_avatar(tmp_path / "tiny.avatar", 3000)
    studio = Studio(Library(tmp_path), "cuda")
    from tests.backend.test_rendering import request_for

    detail = studio.detail("tiny")
    first = studio.render(request_for(detail, 256))
    torch.cuda.empty_cache()
    share = (torch.cuda.memory_reserved() + 64 * 1024**2) / whole_device
    torch.cuda.set_per_process_memory_fraction(share)
    with pytest.raises(torch.OutOfMemoryError) as caught:
        studio.render(request_for(detail, 4096))
    assert "Ask for a smaller picture" in str(
        failed_at(request_for(detail, 4096), caught.value, "logs/render.log").error()
    )
    again = studio.render(request_for(detail, 256))
    assert all((a == b).all() for a, b in zip(first.images, again.images, strict=True))
