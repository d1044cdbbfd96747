"""Editing over a running server: who can edit, what is refused at once, and a real edit of what was painted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from shared import messages as m
from shared.client import BackendClient
from shared.desk_messages import GetJobCurve
from shared.edit_messages import ListEditors, StartEdit
from shared.errors import BadAvatar, BadConfig, BadMessage, EffigyError
from tests.jobs import job_when

TIMEOUT_S = 200.0
QUICK = {
    "iterations": "6",
    "size_px": "64",
    "schedule.sizes_px": "[64]",
    "edit.max_edit_views": "4",
    "edit.instants": "2",
    "edit.orbit_cameras": "3",
}


def asked(key: str, **more: object) -> StartEdit:
    return replace(StartEdit(key, "Tiny Bronze", "tiny", "", "bronze", "built_in", overrides=QUICK), **more)


def test_an_edit_is_refused_or_made_and_listed_with_its_parent(client: BackendClient) -> None:
    welcome = client.connect(TIMEOUT_S)
    assert "edit" in welcome.capabilities
    known = client.request(ListEditors("tiny"), timeout_s=TIMEOUT_S)
    built_in = next(editor for editor in known.editors if editor.name == "built_in")
    assert built_in.problem == ""
    assert any("bronze" in look.prompt for look in built_in.looks)
    assert {"hair", "skin"} <= set(known.regions)
    assert client.request(ListEditors(), timeout_s=TIMEOUT_S).regions == ()
    refusals: tuple[tuple[dict[str, object], type[EffigyError], str], ...] = (
        ({"prompt": "zzqq"}, BadConfig, "zzqq"),
        ({"prompt": " "}, BadMessage, "no words"),
        ({"region": "elbow"}, BadConfig, "elbow"),
        ({"editor": "gimp"}, BadConfig, "gimp"),
        ({"digest": "ab" * 32}, BadAvatar, "not the one"),
        ({"weights": np.zeros(9, np.float32)}, BadMessage, "Nothing is painted"),
        ({"overrides": {"iteration": "3"}}, BadConfig, "iterations"),
    )
    for more, kind, said in refusals:
        with pytest.raises(kind, match=said):
            client.request(asked("no", **more), timeout_s=TIMEOUT_S)
    assert client.request(m.ListJobs()).jobs == ()

    vertices = len(client.request(m.GetAvatar("tiny"), timeout_s=TIMEOUT_S).proxy.vertices)
    weights = np.ones(vertices, np.float32)
    job = client.request(asked("k", weights=weights), timeout_s=TIMEOUT_S)
    assert (job.kind, job.state) == ("edit", "queued")
    done = job_when(client, job.job_id, lambda job: job.state not in ("queued", "running"), TIMEOUT_S)
    assert (done.state, done.avatar_id) == ("done", "Tiny_Bronze"), done.message
    preview = client.request(m.GetJobPreview(job.job_id)).image
    assert preview.shape[1] == 3 * preview.shape[0], "before, aim, now"
    assert "total" in client.request(GetJobCurve(job.job_id)).names
    rows = {row.avatar_id: row for row in client.request(m.ListAvatars()).avatars}
    made, parent = rows["Tiny_Bronze"], rows["tiny"]
    assert made.edit is not None
    assert (made.edit.parent_id, made.edit.parent_digest) == ("tiny", parent.digest)
    assert (made.edit.prompt, made.edit.editor, made.problem) == ("bronze", "built_in", "")
    assert made.digest != parent.digest
