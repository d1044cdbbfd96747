"""One valid message of every kind, always the same, and how to tell two messages apart."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from shared import desk_messages as d
from shared import edit_messages as e
from shared import lamps
from shared import messages as m
from shared import track_messages as t
from shared.types import ProxyMesh, Rig


def rig(joints: int = 3, expressions: int = 2) -> Rig:
    return Rig(
        template_id="effigy_human",
        template_digest="ab" * 32,
        joint_names=tuple(f"joint_{i}" for i in range(joints)),
        parents=np.arange(joints) - 1,
        rest_joints=np.arange(joints * 3, dtype=np.float32).reshape(joints, 3),
        expression_names=tuple(f"expression_{i}" for i in range(expressions)),
        shape=np.array([0.5, -1.0], np.float32),
        expression_ranges=np.tile(np.array([-2.0, 3.0], np.float32), (expressions, 1)),
    )


def proxy(expressions: int = 2) -> ProxyMesh:
    return ProxyMesh(
        vertices=np.arange(12, dtype=np.float32).reshape(4, 3),
        faces=np.array([[0, 1, 2, 2], [0, 1, 2, 3]]),
        group=np.array([0, 1]),
        group_names=("skin", "hair"),
        joints=np.zeros((4, 2)),
        weights=np.full((4, 2), 0.5),
        colour=np.full((4, 3), 0.25),
        expression_vertices=np.array([1, 3]),
        expression_offsets=np.ones((expressions, 2, 3)),
    )


def instance(avatar_id: str = "anna") -> m.AvatarInstance:
    return m.AvatarInstance(
        avatar_id,
        "cd" * 32,
        np.eye(4)[None],
        np.zeros((1, 3, 3), np.float32),
        np.zeros((1, 3), np.float32),
        np.zeros((1, 2), np.float32),
    )


def samples() -> dict[str, Any]:
    """Message name -> a message."""
    summary = m.AvatarSummary("anna", "Anna", "rgb_head", "cd" * 32, "effigy_human", "2026-01-01", {"psnr_db": 31.5})
    note = e.EditNote("ann", "cd" * 32, "bronze", "built_in", "skin", 3, "2026-01-02")
    summary = dataclasses.replace(summary, relightable=True, edit=note)
    look = e.Look("Bronze", "bronze", "dark gold metal")
    job = m.JobInfo("j1", "train", "Anna", "running", 3, 10, 2.5, {"l1": 0.25}, 2.8, "Größe ✓", "2026-01-01")
    job = dataclasses.replace(
        job, place=2, findings=(d.Finding("masks", "ok", "8 of 8"),), capture="demo", preset="tiny"
    )
    job = dataclasses.replace(job, owner="Blender of anna@desk", stalled_s=42.5)
    memory = m.PixelMemory(42, 7, "ab" * 16, 8192, 4096, 3, ("float16", "float32"), ((2, 3, 4), (2, 3, 1)))
    version = m.PROTOCOL_VERSION
    every = (
        m.Hello(version, "blender", "0.1.0", "secret", "ab" * 16),
        m.Welcome(
            version,
            "0.1.0",
            "e1",
            "ipc://@f",
            "tcp://127.0.0.1:2",
            "cpu",
            "numba",
            ("render",),
            "cd" * 16,
            47616,
            47617,
            3,
        ),
        m.Leave(),
        m.Ping(),
        m.Done("done"),
        m.Failure("not_found", "No such avatar", "bob", "anna", "List the library"),
        m.ListAvatars(),
        m.AvatarList((summary, dataclasses.replace(summary, avatar_id="bob", problem="weights are missing"))),
        m.GetAvatar("anna"),
        m.AvatarDetail(summary, rig(), proxy(), np.zeros((3, 3), np.float32), np.full((2, 2, 4), 7, np.uint8)),
        m.StartTraining("k1", "Anna", "demo_head", "tiny", {"steps": "20"}, 2),
        m.StartOnline("k2", "Anna", "video", "a.mp4", "a.npz", overrides={"sampler.pool": "500"}),
        m.ListPresets(),
        m.PresetList({"tiny": "seconds"}, {"demo_head": "a head"}, {"tiny": "RGB head"}),
        m.ListJobs(),
        m.JobList((job,)),
        job,
        m.ChangeJob("j1", "pause"),
        m.GetJobPreview("j1"),
        m.JobPreview("j1", 3, np.zeros((0, 0, 3), np.uint8)),
        m.PutEnvironment("ef" * 32, np.full((2, 4, 3), 0.5, np.float16)),
        m.RenderRequest(
            "final",
            (instance(), dataclasses.replace(instance("bob"), light=m.InstanceLight("", 0.5, 2.0, 0.25))),
            64,
            48,
            np.eye(3)[None],
            np.eye(4)[None],
            0.1,
            100.0,
            environment_lights=lamps.sun((0, 0, 1), (2, 2, 1), 0.5)[None],
            environment_lamps=lamps.ball((1, 2, 3), (4, 4, 4), 0.25)[None],
        ),
        m.FrameReply("final", ("combined",), (np.full((2, 3, 4), 0.5, np.float16),), 12.5, memory),
        m.PoseGaussians("splats/anna", instance(), "ef" * 32, 0.5, 2.0),
        m.GaussianCloud(
            "splats/anna",
            np.full((2, 3), 0.5, np.float32),
            np.tile(np.array([1, 0, 0, 0], np.float32), (2, 1)),
            np.full((2, 3), 0.25, np.float32),
            np.ones(2, np.float32),
            np.zeros((2, 1, 3), np.float32),
        ),
        m.Superseded("final"),
        m.GetMotion("anna", "demo_head", True, 0.75, 1.5, 3, 1.0, "00"),
        m.MotionReply(
            ("head",),
            ("jawOpen",),
            np.full((2, 1, 3), 0.25, np.float32),
            np.zeros((2, 3), np.float32),
            np.ones((2, 1), np.float32),
            25.0,
            ("It lacks a neck.",),
        ),
        t.TrackBegins("Anna", "effigy_human", "", "bust", "man", np.zeros(0, np.float32), ("head",), ("jawOpen",)),
        t.TrackFrame(
            9,
            0.36,
            np.full((2, 3, 4), 7, np.uint8),
            np.eye(3),
            np.eye(4),
            np.zeros((1, 3), np.float32),
            np.zeros(3, np.float32),
            np.full(1, 0.5, np.float32),
            np.zeros((0, 3), np.float32),
        ),
        t.TrackEnds(),
        t.StartTrack("k6", "/films/talk.mp4", "/films/talk_capture", 26.0, 2, 256, "Ada", "CC0-1.0", True, 1.7),
        t.StartDrive("k7", "0", "tcp://127.0.0.1:47622", 26.0),
        m.JobEvent(7, job),
        d.GetStatus(),
        d.Status("cpu", "numba", 2**31, 2**33, 1, 2, 1, 12.5, "/data", {"bad_message": 3}, "not installed", 3),
        d.Memory(2**31, 2**33),
        d.GetLog("j1"),
        d.LogText("a line\nanother"),
        d.GetAvatarInfo("anna"),
        d.AvatarInfo("anna", "cd" * 32, {"Method": "RGBAvatar head"}, np.full((2, 2, 4), 7, np.uint8)),
        d.ChangeAvatar("anna", "rename", "Anna B."),
        d.ListTrash(),
        d.Finding("axes", "bad", "turned by 90 degrees", "Mend it"),
        d.StartCheck("k3", "demo_head", 4, True),
        d.StartImport("k4", "/heads/anna", "Anna", mean_shape=True, licence="CC0-1.0"),
        d.StartExport(
            "k5",
            "anna",
            "cd" * 32,
            "spz",
            "/out/anna",
            np.zeros((1, 3, 3), np.float32),
            np.zeros((1, 3), np.float32),
            np.zeros((1, 2), np.float32),
            sequence=True,
        ),
        d.GetJobCurve("j1"),
        d.JobCurve("j1", ("l1",), np.arange(2), np.array([[0.5], [0.25]], np.float32)),
        e.ListEditors("anna"),
        e.EditorList((e.EditorInfo("built_in", "Built in", "Apache-2.0", looks=(look,)),), ("skin", "hair")),
        e.StartEdit(
            "k6",
            "Anna, bronze",
            "anna",
            "cd" * 32,
            "bronze",
            "built_in",
            text_guidance=7.5,
            image_guidance=1.5,
            weights=np.ones(4, np.float32),
            gpus=2,
        ),
    )
    return {type(message).__name__: message for message in every}


def same(a: Any, b: Any) -> bool:
    """Equal types, values, dtypes and shapes, all the way down."""
    if type(a) is not type(b):
        return False
    if dataclasses.is_dataclass(a):
        return all(same(getattr(a, field.name), getattr(b, field.name)) for field in dataclasses.fields(a))
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b))
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    return bool(a == b)
