"""Frames within a memory bound, and how a head lies in them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from avatars.online.frames import TrackedFrame
from avatars.online.head_pose import HeadPoints, mask_iou
from avatars.online.sampler import OnlineSampler, SamplerConfig
from avatars.online.store import FrameStore, plan_store, stacked
from avatars.templates.opening import embedded_template
from shared.errors import BadConfig, BadMessage
from shared.types import Camera, Pose
from tests.tiny import front_camera, render_head, still_motion, tiny_head

CAMERA = Camera(6, 4, np.array([[10.0, 0, 3], [0, 10, 2], [0, 0, 1]]), np.eye(4))


def tracked(number: int, size: tuple[int, int] = (4, 6)) -> TrackedFrame:
    camera = Camera(size[1], size[0], CAMERA.K, CAMERA.world_from_camera)
    pose = Pose(np.full((2, 3), number), np.zeros(3), np.zeros(1))
    return TrackedFrame(number, 0.0, np.full((*size, 4), number % 256, np.uint8), camera, pose)


def test_what_left_the_sampler_stays_while_there_is_room_and_goes_oldest_first() -> None:
    sampler, store = OnlineSampler(SamplerConfig(ring=3, pool=2), 0), FrameStore(8, torch.device("cpu"))
    for number in range(40):
        frame = store.made(tracked(number), torch.full((2,), number), torch.zeros(3, 3))
        store.put(number, frame, sampler.add(number))
        held = {*sampler.ring, *sampler.pool}
        assert held <= set(store.numbers())
        assert len(store) <= 8
    assert len(store) == 8
    assert store.bytes == sum(frame.bytes() for frame in store.chosen(store.numbers()))
    spare = sorted(set(store.numbers()) - held)
    assert len(spare) == 3


def test_a_batch_holds_the_chosen_pictures() -> None:
    store = FrameStore(8, torch.device("cpu"))
    for number in range(5):
        store.put(number, store.made(tracked(number), torch.full((2,), number), torch.full((3, 3), number)), ())
    theta, vertices, batch = stacked(store.chosen((4, 1)), torch.ones(2, 3))
    assert theta.tolist() == [[4, 4], [1, 1]]
    assert vertices.shape == (2, 3, 3)
    assert torch.allclose(batch.rgba[:, 0, 0, 0], torch.tensor([4.0, 1.0]) / 255)
    assert (batch.cameras.width_px, batch.cameras.height_px) == (6, 4)
    assert batch.frames.tolist() == [4, 1]


def test_a_picture_of_another_size_is_refused() -> None:
    store = FrameStore(8, torch.device("cpu"))
    store.made(tracked(0), torch.zeros(2), torch.zeros(3, 3))
    with pytest.raises(BadMessage, match="another size"):
        store.made(tracked(1, (8, 6)), torch.zeros(2), torch.zeros(3, 3))


def test_memory_is_planned_by_half_the_side_and_then_by_a_smaller_pool() -> None:
    sampler, size = SamplerConfig(), (512, 512)
    roomy = plan_store(sampler, 512, 4 << 30, size, 200_000)
    assert (roomy.longest_px, roomy.sampler, roomy.note) == (512, sampler, "")
    assert roomy.frames > 3000
    half = plan_store(sampler, 512, 1 << 30, size, 200_000)
    assert (half.longest_px, half.sampler.pool) == (256, 1000)
    assert "256 px" in half.note
    small = plan_store(sampler, 512, 200 << 20, size, 200_000)
    assert (small.longest_px, small.frames) == (256, small.sampler.ring + small.sampler.pool)
    assert 150 < small.frames < 1150
    with pytest.raises(BadConfig, match="memory_mb is too small"):
        plan_store(sampler, 512, 20 << 20, size, 200_000)
    assert plan_store(sampler, 512, 4 << 30, (200, 100), 0).longest_px == 200


@pytest.mark.parametrize("yaw", [-0.7, 0.0, 0.4])
def test_turns_are_those_of_camera_and_head_together(yaw: float) -> None:
    model = tiny_head(200)
    arrays = embedded_template("bust")
    motion = still_motion(1, model)
    points = HeadPoints(model)
    straight = model.head.posed_vertices(**motion)[0].numpy()
    turn = points.turn(straight, front_camera(64, yaw))
    assert turn.yaw_deg == pytest.approx(-np.degrees(yaw), abs=0.1)
    assert turn.pitch_deg == pytest.approx(0, abs=0.1)
    motion["rotations"][0, arrays.joint_names.index("head"), 2] = yaw
    turned = points.turn(model.head.posed_vertices(**motion)[0].numpy(), front_camera(64, yaw))
    assert abs(turned.yaw_deg) < 1.0, "turned into the camera"
    motion["rotations"][0] = 0
    motion["rotations"][0, arrays.joint_names.index("head"), 0] = -0.3
    up = points.turn(model.head.posed_vertices(**motion)[0].numpy(), front_camera(64))
    assert up.pitch_deg == pytest.approx(np.degrees(0.3), abs=1.0)


def test_mask_iou_is_high_where_it_fits_and_low_where_it_does_not() -> None:
    model, camera = tiny_head(1500), front_camera(128)
    motion = still_motion(1, model)
    vertices = model.head.posed_vertices(**motion)[0].numpy()
    alpha = (render_head(model, [camera], motion)[0, ..., 3] * 255).astype(np.uint8)
    triangles = model.skin_triangles.numpy()
    fits = mask_iou(vertices, triangles, camera, alpha)
    assert fits > 0.75
    assert mask_iou(vertices + np.float32((0.1, 0, 0)), triangles, camera, alpha) < fits - 0.1
    assert mask_iou(vertices, triangles, camera, np.zeros_like(alpha)) == 0
    assert mask_iou(vertices - np.float32((0, 5, 0)), triangles, camera, alpha) == 0, "behind the camera"
    half = Camera(64, 64, np.diag([0.5, 0.5, 1]) @ camera.K, camera.world_from_camera)
    assert mask_iou(vertices, triangles, half, alpha[::2, ::2]) == pytest.approx(fits, abs=0.05)
