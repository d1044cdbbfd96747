"""Training in several processes, with gloo on the CPU: what one learns they learn, and how it ends, goes on and fails.

On GPUs the same code runs with NCCL: `benchmark scale --agree`.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import psutil
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from avatars.avatar_folder import avatar_digest, read_description
from avatars.text_edit.gates import read_weights
from avatars.text_edit.run import edit_config, with_painted
from avatars.training import ranks
from avatars.training.checkpoint import newest_checkpoint
from avatars.training.config import PRESET_FOLDER, load_config
from avatars.training.progress import TrainResult
from avatars.training.trainer import RatedParameter
from backend import on_gpus
from backend.cli import main
from backend.library import Library
from backend.on_gpus import RankLost, check_gpus, run_on_gpus, torchrun
from backend.rank_orders import Order, config_of, edit_order, obey, training_order
from backend.training_run import check_training, run_training
from shared.errors import BadCapture, BadConfig, EnvironmentFailed
from shared.messages import Failure, StartTraining
from tests.ranks_trial import CASES, learn, prepare

pytestmark = pytest.mark.usefixtures("one_thread")
ROOT = Path(__file__).resolve().parents[2]
FEW = {"schedule.images": "24", "reporting.curve_points": "0", "reporting.preview_s": "0.01"}
FEW |= {"model.first_look_px": "0", "model.fill_unseen": "false"}
EDIT = {"prompt": "bronze", "iterations": "6", "size_px": "32", "schedule.sizes_px": "[32]", "schedule.batch": "2"}
EDIT |= {"edit.max_edit_views": "4", "edit.instants": "2", "edit.orbit_cameras": "3", "reporting.curve_points": "0"}
EDIT |= {"reporting.event_s": "0"}
TAUGHT = {"schedule.images": "2", "teacher.fields.start_steps": "10", "reporting.curve_points": "0"}
PROXY_VERTICES = 6488


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("trial")
    prepare(place)
    return place


@pytest.fixture(scope="module")
def orders(folder: Path) -> dict[str, Order]:
    """A teacher, and an edit of what was painted that one process has begun and paused: two will obey them."""
    (avatar,) = folder.glob("avatar/*.avatar")
    place, events = folder / "obeyed" / "edit", list[Any]()
    config = with_painted(edit_config(EDIT, "edit_cpu"), np.ones(PROXY_VERTICES, np.float32), place)
    edit = edit_order(config, avatar, "", "Red")
    paused = obey(edit, place, "cpu", events.append, lambda: "pause" if any(event.step for event in events) else "")
    assert paused.state == "paused"
    teacher = training_order(load_config("relit_teacher_tiny", TAUGHT), str(folder / "captures" / "body"), "ada")
    found = {"edit": edit, "teacher": teacher}
    (folder / "orders").mkdir()
    for name, order in found.items():
        (folder / "orders" / f"{name}.json").write_text(json.dumps(asdict(order)), encoding="utf-8")
    return found


Learned = dict[str, tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Tensor]]]


@pytest.fixture(scope="module")
def learned(folder: Path, orders: dict[str, Order]) -> Learned:
    """Of each case what one process learned, and what each of two did; these obeyed the orders, too."""
    assert orders
    environment = dict(os.environ, PYTHONPATH=str(ROOT), OMP_NUM_THREADS="1", GLOO_SOCKET_IFNAME="lo")
    command = [*torchrun(2), "-m", "tests.ranks_trial", str(folder), *CASES]
    with subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True) as two:
        one = {name: learn(name, folder, folder / f"one_{name}") for name in CASES}
        _, told = two.communicate()
    assert two.returncode == 0, told[-4000:]
    return {
        name: (one[name], *(load_file(folder / f"{name}.{rank}.safetensors") for rank in (0, 1)))  # type: ignore[misc]
        for name in CASES
    }


@pytest.mark.parametrize("name", CASES)
def test_two_processes_learn_what_one_does(learned: Learned, name: str) -> None:
    """Gradients agree to rounding. Adam turns rounding into whole steps where a gradient is next to nothing, so of
    what is learned a few numbers may be off."""
    one, first, second = learned[name]
    assert set(one) == set(first) == set(second)
    for key, value in first.items():
        assert torch.equal(value, second[key]), key
    slopes = [key for key in one if key.startswith("first.exp_avg.")]
    assert sum(float(one[key].abs().sum()) for key in slopes) > 0
    for key in slopes:
        largest = float(one[key].abs().max())
        torch.testing.assert_close(first[key], one[key], rtol=1e-3, atol=1e-4 * largest, msg=key)
    off = count = 0
    for key in [key for key in one if key.startswith(("parameter.", "kept.")) and one[key].numel()]:
        assert first[key].shape == one[key].shape, key
        apart = (first[key].double() - one[key].double()).abs()
        off += int((apart > 1e-3 * one[key].double().abs().max()).sum())
        count += apart.numel()
    assert off < 0.05 * count, f"{off} of {count}"


@pytest.mark.usefixtures("learned")
def test_two_processes_obey_an_order_of_any_kind(folder: Path, orders: dict[str, Order]) -> None:
    """The edit goes on where one process paused it; only the first of two writes and tells."""
    said = {name: json.loads((folder / "orders" / f"{name}.said").read_text(encoding="utf-8")) for name in orders}
    assert "Resumed at 2 images" in said["edit"]
    assert all(messages[-1] == "Done" for messages in said.values()), said
    edited = folder / "obeyed" / "edit"
    (parent,) = folder.glob("avatar/*.avatar")
    assert read_description(edited / "Red.avatar")["edit"]["parent"]["digest"] == avatar_digest(parent)
    assert (folder / "obeyed" / "teacher" / "ada.teacher" / "weights.safetensors").is_file()
    for name in orders:
        facts = json.loads((folder / "obeyed" / name / "report" / "metrics.json").read_text(encoding="utf-8"))
        assert facts["device"] == "2 x cpu"


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Order, int, Path]]:
    """What commands give to several processes, which pause at once."""
    found: list[tuple[Order, int, Path]] = []

    def stand_in(order: Order, gpus: int, folder: Path, *more: Any) -> TrainResult:
        found.append((order, gpus, folder))
        return TrainResult(folder, folder, {}, "paused")

    monkeypatch.setattr(on_gpus, "run_on_gpus", stand_in)
    return found


def test_every_command_that_trains_takes_several_gpus(
    folder: Path, given: list[tuple[Order, int, Path]], tmp_path: Path
) -> None:
    captures, here = folder / "captures", ["--device", "cpu", "--gpus", "2"]
    (avatar,) = folder.glob("avatar/*.avatar")
    np.save(tmp_path / "painted.npy", np.ones(PROXY_VERTICES, np.float32))
    output = ["--output", str(tmp_path)]
    commands: dict[str, list[str]] = {
        "tiny": ["train", "--subject", "head", "--data_dir", str(captures), "--output_dir", str(tmp_path)],
        "relit_teacher_tiny": ["relight", "teacher", "--capture", str(captures / "body"), *output],
        "relit_body_tiny": ["relight", "distill", "--capture", str(captures / "painted"), *output],
        "edit_cpu": ["edit", str(avatar), "--prompt", "bronze", "--home", str(tmp_path)],
    }
    captured = {"tiny": "head", "relit_teacher_tiny": "body", "relit_body_tiny": "painted"}
    captured = {preset: str(captures / name) for preset, name in captured.items()} | {"edit_cpu": ""}
    commands["relit_body_tiny"] += ["--teacher", "painted"]
    commands["edit_cpu"] += ["--weights", str(tmp_path / "painted.npy")]
    for preset, words in commands.items():
        assert main([*words, "--preset", preset, "--set", "schedule.images=7", *here]) == 130, words
        order, gpus, place = given[-1]
        assert gpus == 2
        config = config_of(order)
        assert (config.schedule.images, config.method) == (7, load_config(preset).method)
        assert order.kind == ("edit" if preset == "edit_cpu" else "train")
        assert order.capture == captured[preset]
        assert tmp_path in (place, *place.parents)
    assert given[-1][0].avatar == str(avatar)
    assert read_weights(Path(config.edit.weights_file)).shape == (PROXY_VERTICES,)
    for words in commands.values():
        assert main([*words, "--gpus", "0"]) == 2
    assert len(given) == len(commands)


def asked(folder: Path, name: str, gpus: int) -> StartTraining:
    return StartTraining("k", name, str(folder / "captures" / "head"), "tiny", FEW, gpus)


@pytest.fixture
def no_child_left() -> Iterator[None]:
    """What a test started has ended with it; what other files' fixtures keep running in this process may stay."""
    before = set(psutil.Process().children(recursive=True))
    yield
    _, alive = psutil.wait_procs(set(psutil.Process().children(recursive=True)) - before, timeout=60)
    assert not alive


@pytest.mark.usefixtures("no_child_left")
def test_it_goes_on_with_another_number(folder: Path, tmp_path: Path) -> None:
    """One process, paused; two, paused; one to the end: pictures that were seen stay seen."""
    library, place, told = Library(tmp_path / "library"), tmp_path / "job", []
    library.folder.mkdir()
    seen = []
    for gpus in (1, 2, 1):
        events: list[Any] = []
        until = 24 if len(seen) == 2 else 8 * (len(seen) + 1)

        def wanted(events: list[Any] = events, until: int = until) -> str:
            return "pause" if until < 24 and any(event.step >= until - 6 for event in events) else ""

        outcome = run_training(asked(folder, "tiny", gpus), place, library, "cpu", events.append, wanted)
        saved = newest_checkpoint(place / "checkpoints")
        seen.append(saved.notes["images"] if saved is not None else 24)
        told.append((outcome.state, [event.message for event in events]))
    assert [state for state, _ in told] == ["paused", "paused", "done"], told
    assert 0 < seen[0] < seen[1] < 24
    assert any(f"Resumed at {seen[0]} images" in text for text in told[1][1])
    assert any(f"Resumed at {seen[1]} images" in text for text in told[2][1])
    assert library.ids() == ["tiny"]


@pytest.mark.usefixtures("no_child_left")
def test_short_memory_halves_the_batch_and_a_dead_process_ends_all(folder: Path, tmp_path: Path) -> None:
    events: list[Any] = []
    config = load_config("tiny", FEW | {"schedule.batch": "4"})
    order = training_order(config, str(folder / "captures" / "head"), "short")
    with pytest.raises(RankLost, match=r"ended by itself \(found process 2 of 2, killed by signal 9\)"):
        run_on_gpus(order, 2, tmp_path / "job", "cpu", events.append, str, module="tests.backend.failing_rank")
    assert any(event.message.endswith("batches of 2 from here on") for event in events)
    assert any(event.preview is not None and event.preview.ndim == 3 for event in events)


class ShortRanks:
    """Stands for processes that are out of memory, whatever their batch."""

    batches: ClassVar[list[int]] = []

    def __init__(self, order: Order, gpus: int, folder: Path, device: str, batch: int, module: str) -> None:
        self.batches.append(batch)

    def __enter__(self) -> ShortRanks:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def followed(self, *_: object) -> tuple[None, Failure]:
        """How they ended."""
        return None, Failure("short_of_memory", "out of memory")


@pytest.mark.parametrize(
    ("preset", "batch", "tried"),
    [("tiny", "8", [0, 4, 2]), ("relit_teacher_tiny", "4", [0, 2, 1])],
)
def test_batches_shrink_to_a_picture_a_process_or_to_shared_rays(
    preset: str, batch: str, tried: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(on_gpus, "_Ranks", ShortRanks)
    monkeypatch.setattr(ShortRanks, "batches", [])
    order = training_order(load_config(preset, {"schedule.batch": batch}), "", "x")
    with pytest.raises(EnvironmentFailed, match=f"no memory left for a batch of {tried[-1]}"):
        run_on_gpus(order, 2, tmp_path, "cpu", lambda told: None, str)
    assert ShortRanks.batches == tried


@pytest.mark.usefixtures("no_child_left")
def test_what_one_process_cannot_read_is_the_sentence_of_all(folder: Path, tmp_path: Path) -> None:
    order = training_order(load_config("tiny", FEW), str(folder / "captures" / "head"), "bad")
    with pytest.raises(BadCapture, match=r"a picture cannot be read \(found 0042.png\)"):
        run_on_gpus(order, 2, tmp_path / "job", "cpu", lambda told: None, str, module="tests.backend.failing_rank")


def test_an_order_holds_every_value_of_every_preset() -> None:
    for file in PRESET_FOLDER.glob("*.yaml"):
        config = load_config(file.stem)
        order = training_order(config, "x", "y")
        assert config_of(Order(**json.loads(json.dumps(asdict(order))))) == config, file.stem


def test_numbers_that_make_no_sense(folder: Path) -> None:
    with pytest.raises(BadConfig, match="number of GPUs"):
        check_training(asked(folder, "tiny", 0))
    if torch.cuda.device_count() < 60:
        with pytest.raises(EnvironmentFailed, match="not 60 GPUs here"):
            check_gpus(60, "cuda")
    with pytest.raises(BadConfig, match=r"one is named \(found 2 and cuda:1\)"):
        check_gpus(2, "cuda:1")
    check_gpus(1, "cuda:1")
    check_gpus(60, "cpu")


def test_who_takes_which_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = load_config("tiny", {"schedule.batch": "4", "schedule.grow_batch": "true"}).schedule
    assert ranks.batch_of(plan) == 4
    assert ranks.part_of(10, 1).share == 1
    monkeypatch.setattr(ranks, "count", lambda: 3)
    taken = []
    for rank in range(3):
        monkeypatch.setattr(ranks, "rank", lambda rank=rank: rank)
        for whole, views in ((10, 1), (12, 2), (3, 1), (4, 4)):
            part = ranks.part_of(whole, views)
            taken.append((whole, part.first, part.last))
            assert whole < 12 or part.first % views == 0
    for whole in (10, 12, 3, 4):
        parts = [(first, last) for size, first, last in taken if size == whole]
        assert [row for first, last in parts for row in range(first, last)] == list(range(whole))
    assert ranks.part_of(1, 1, splits=True).share == pytest.approx(1 / 3)
    assert ranks.batch_of(plan) == 12
    entry = RatedParameter("x", torch.nn.Parameter(torch.zeros(1)), 0.1, 0.01, 100)
    (more,) = ranks.grown([entry], 4.0)
    assert (more.rate(0), more.rate(100)) == pytest.approx((0.2, 0.02))
