"""Checkpoints: exact, at most two, and the older one serves when the newer is damaged."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from avatars.training.checkpoint import Checkpoint, checkpoints, clear_unfinished, newest_checkpoint, save_checkpoint
from avatars.training.optimiser import Optimiser
from avatars.training.trainer import RatedParameter
from shared.errors import EnvironmentFailed

ROOT = Path(__file__).resolve().parents[3]


def write(folder: Path, images: int) -> Path:
    return save_checkpoint(folder, Checkpoint({"x": torch.full((3,), float(images))}, {"images": images}), images)


def test_two_are_kept_and_the_newest_is_found(tmp_path: Path) -> None:
    assert newest_checkpoint(tmp_path / "none") is None
    for images in (2, 30, 400):
        write(tmp_path, images)
    assert [path.name for path in checkpoints(tmp_path)] == ["images_0000000030", "images_0000000400"]
    found = newest_checkpoint(tmp_path)
    assert found is not None
    assert found.notes["images"] == 400
    assert torch.equal(found.tensors["x"], torch.full((3,), 400.0))


@pytest.mark.parametrize("name", ["state.safetensors", "state.json"])
def test_a_damaged_newest_falls_back_to_the_older(tmp_path: Path, name: str) -> None:
    write(tmp_path, 1)
    newest = write(tmp_path, 2)
    content = bytearray((newest / name).read_bytes())
    content[len(content) // 2] ^= 255
    (newest / name).write_bytes(content)
    found = newest_checkpoint(tmp_path)
    assert found is not None
    assert found.notes["images"] == 1


def test_if_none_is_intact_the_user_is_told(tmp_path: Path) -> None:
    (write(tmp_path, 1) / "state.safetensors").unlink()
    with pytest.raises(EnvironmentFailed, match=r"no checkpoint in .* is intact"):
        newest_checkpoint(tmp_path)


def test_an_interrupted_write_is_not_a_checkpoint(tmp_path: Path) -> None:
    write(tmp_path, 1)
    (tmp_path / ".images_0000000002.abcd.tmp").mkdir()
    found = newest_checkpoint(tmp_path)
    assert found is not None
    assert found.notes["images"] == 1


def test_what_a_kill_left_is_put_right(tmp_path: Path) -> None:
    (write(tmp_path, 1)).rename(tmp_path / ".images_0000000001.0abc.old")
    (tmp_path / ".images_0000000002.0abc.tmp").mkdir()
    clear_unfinished(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["images_0000000001"]
    assert newest_checkpoint(tmp_path) is not None


def test_a_full_disk_at_every_byte_harms_nothing(tmp_path: Path) -> None:
    """The limit on the size of a file stands for the disk's end; each place of the larger file is tried."""
    resource = pytest.importorskip("resource")
    first = write(tmp_path, 1)
    before = {file.name: file.read_bytes() for file in first.iterdir()}
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        for end in range(max(map(len, before.values()))):
            resource.setrlimit(resource.RLIMIT_FSIZE, (end, limits[1]))
            with pytest.raises(EnvironmentFailed, match=r"images_0000000002 cannot be written"):
                write(tmp_path, 2)
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
            assert {file.name: file.read_bytes() for file in first.iterdir()} == before
            assert list(tmp_path.iterdir()) == [first]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    write(tmp_path, 2)
    assert len(checkpoints(tmp_path)) == 2


def test_a_damaged_newer_one_goes_when_the_run_goes_on(tmp_path: Path) -> None:
    write(tmp_path, 8)
    (write(tmp_path, 30) / "state.safetensors").write_bytes(b"")
    found = newest_checkpoint(tmp_path)
    assert found is not None
    assert "images_0000000030" in found.passed_over[0]
    write(tmp_path, 16)
    assert [path.name for path in checkpoints(tmp_path)] == ["images_0000000008", "images_0000000016"]


def test_a_restored_optimiser_takes_the_same_steps() -> None:
    def fresh() -> tuple[nn.Parameter, Optimiser]:
        parameter = nn.Parameter(torch.tensor([1.0, -2.0, 0.5]))
        return parameter, Optimiser([RatedParameter("p", parameter, 0.1, 0.001, 10)])

    def run(parameter: nn.Parameter, optimiser: Optimiser, steps: range) -> None:
        for step in steps:
            optimiser.step(((parameter - 0.3) ** 2).sum() * (1 + step), step)

    first, whole = fresh()
    run(first, whole, range(4))
    state = {name: value.clone() for name, value in whole.state().items()}
    run(first, whole, range(4, 9))
    second, resumed = fresh()
    resumed.restore(state)
    run(second, resumed, range(4, 9))
    assert torch.equal(first, second)
    assert whole.adam.param_groups[0]["lr"] == pytest.approx(0.1 * 0.01**0.8)


def test_an_optimiser_does_not_import_the_compiler() -> None:
    """torch._dynamo takes longer to import than all that a small training does."""
    code = (
        "import sys, torch\n"
        "from avatars.training.optimiser import Optimiser\nfrom avatars.training.trainer import RatedParameter\n"
        "p = torch.nn.Parameter(torch.ones(3))\n"
        "optimiser = Optimiser([RatedParameter('p', p, 0.1, 0.1, 1)])\noptimiser.step(p.sum(), 0)\n"
        "assert p.max() < 1 and 'torch._dynamo' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
