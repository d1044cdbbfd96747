"""What a failed training offers to press, and what pressing it asks the backend."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from blender_addon.logic.link import LinkState
from blender_addon.logic.remedies import LARGE_TO_SMALL, job_remedies, preset_for_cpu, smaller_preset
from blender_addon.services.connection import CONNECTION
from blender_addon.ui import panels_edit, panels_train
from shared import desk_messages, messages
from shared.machine import whoami

from .conftest import ROOT
from .drawn import draw, draw_whole

OFFERED = {name: "" for chain in LARGE_TO_SMALL for name in chain}
MEMORY = "The worker process stopped 4 times (killed by signal 9, perhaps for lack of memory); its log is empty"
DEVICE = "This CUDA device is not there (found cuda; torch sees 0). Use --device cpu, or install the driver."
DISK = "The disk refused (found /x: No space left on device). Make room and resume the job."
CAPTURE = "There is no capture in this folder (found nothing)."
SETTINGS = "preset 'mine' has no setting 'image'. Did you mean images?"


@pytest.mark.parametrize(
    ("sentence", "preset", "labels"),
    [
        (MEMORY, "rgb_head_quality", ["Train with rgb_head_offline", "Resume"]),
        (MEMORY, "demo_cpu", ["Resume"]),
        ("CUDA out of memory. Tried to allocate 2 GiB", "mlp_body_paper", ["Train with mlp_body_fast", "Resume"]),
        (DEVICE, "relit_body", ["Train with relit_body_cpu"]),
        (DISK, "demo_cpu", ["Resume"]),
        (CAPTURE, "demo_cpu", ["Check Its Capture"]),
        (SETTINGS, "mine", ["Change Its Settings"]),
        ("Something nobody foresaw", "demo_cpu", ["Resume"]),
    ],
)
def test_each_failure_has_what_may_help(sentence: str, preset: str, labels: list[str]) -> None:
    assert [remedy.label for remedy in job_remedies(sentence, preset, OFFERED)] == labels


def test_only_presets_that_the_backend_has_are_offered() -> None:
    assert smaller_preset("rgb_head_quality", {"demo_cpu"}) == "demo_cpu"
    assert smaller_preset("rgb_head_quality", ()) == smaller_preset("mine", OFFERED) == ""
    assert preset_for_cpu("demo_cpu", OFFERED) == preset_for_cpu("mlp_body_fast", ()) == ""
    there = {path.stem for path in ROOT.glob("avatars/**/presets/*.yaml")}
    assert set(OFFERED) <= there, "presets of the tables exist"


def test_the_buttons_of_a_failed_training_ask_for_what_they_say(addon: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = tuple(
        messages.JobInfo(job_id, "train", "Anna", "failed", message=text, capture=capture, preset="rgb_head_quality")
        for job_id, text, capture in (
            ("a", MEMORY, "demo_head"),
            ("b", CAPTURE, str(ROOT)),
            ("c", SETTINGS, "demo_head"),
        )
    )
    presets = messages.PresetList(OFFERED, {"demo_head": "a head"})
    state = LinkState("tcp://127.0.0.1:1", "connected", jobs=jobs, presets=presets)
    asked: list[Any] = []

    def answer(question: Any, timeout_s: float) -> Any:
        asked.append(question)
        return SimpleNamespace(job_id="new", name="Anna", state="queued")

    monkeypatch.setattr(type(CONNECTION), "state", property(lambda self: state))
    monkeypatch.setattr(CONNECTION, "ask_and_wait", answer, raising=False)
    texts = draw(panels_train.EFFIGY_PT_train)
    for label in ("Train with rgb_head_offline", "Resume", "Check Its Capture", "Change Its Settings"):
        assert f"effigy.mend_job {label}" in texts
    training = addon.context.scene.effigy.training
    addon.ops.effigy.mend_job(job_id="a", action="again", preset="rgb_head_offline")
    assert isinstance(asked[-1], messages.StartTraining)
    assert (asked[-1].name, asked[-1].capture, asked[-1].preset) == ("Anna", "demo_head", "rgb_head_offline")
    assert (training.source, training.capture, training.preset) == ("EMBEDDED", "demo_head", "rgb_head_offline")
    addon.ops.effigy.mend_job(job_id="a", action="resume")
    assert (asked[-1].job_id, asked[-1].action) == ("a", "resume")
    addon.ops.effigy.mend_job(job_id="b", action="check")
    assert isinstance(asked[-1], desk_messages.StartCheck)
    assert asked[-1].capture == training.folder == str(ROOT)
    count = len(asked)
    addon.ops.effigy.mend_job(job_id="c", action="form")
    assert (training.capture, training.preset, len(asked)) == ("demo_head", "rgb_head_quality", count)
    with pytest.raises(RuntimeError, match="listed no more"):
        addon.ops.effigy.mend_job(job_id="gone", action="form")


FULL = f"{messages.NO_ROOM}: /home/checkpoints needs 1,000 bytes for a checkpoint (No space left on device); goes on"


@pytest.mark.parametrize("kind", ["train", "edit"])
def test_a_job_that_waits_for_room_says_so_and_one_that_another_holds_cannot_be_changed(
    addon: Any, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    jobs = (
        messages.JobInfo("full", kind, "Anna", "running", 5, 10, message=FULL, owner=f"Blender ({whoami()})"),
        messages.JobInfo("held", kind, "Ben", "running", 5, 10, owner="Blender (ben@desk, process 1)"),
        messages.JobInfo("mine", kind, "Cleo", "running", 5, 10, owner=f"Blender ({whoami()})"),
    )
    welcome = messages.Welcome(messages.PROTOCOL_VERSION, "", "", "", "", "cpu", "numba", ("train", "edit"))
    state = LinkState("tcp://127.0.0.1:1", "connected", jobs=jobs, welcome=welcome)
    monkeypatch.setattr(type(CONNECTION), "state", property(lambda self: state))
    panel = panels_train.EFFIGY_PT_train if kind == "train" else panels_edit.EFFIGY_PT_edit
    shown = draw_whole(panel)
    assert "Anna: waits for room" in shown.texts
    assert "Cleo: running" in shown.texts
    told = " ".join(shown.texts)
    for words in ("needs 1,000 bytes", "goes on", "Held by Blender (ben@desk,", "effigy.change_job Take Over"):
        assert words in told
    off = [(button.job_id, button.action) for name, button in shown.off if name == "effigy.change_job"]
    assert off == [("held", "pause"), ("held", "cancel")], "it would be refused; taking it over is offered beside it"
