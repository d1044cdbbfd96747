"""Pictures through the whole way: client, server, render worker, shared memory; and the command line's own."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from avatars.lighting.environment_files import write_exr
from backend import cli_render
from backend.cli import main
from backend.launcher import RunningServer
from shared import lamps
from shared import messages as m
from shared.client import BackendClient
from shared.errors import BadMessage, Cancelled
from shared.render_messages import KEPT_ENVIRONMENTS
from tests.tiny import front_camera

TIMEOUT_S = 150.0


@pytest.fixture(scope="module")
def detail(server: RunningServer) -> m.AvatarDetail:
    with BackendClient(server.address, key=server.key) as client:
        answer = client.request(m.GetAvatar("tiny"), timeout_s=TIMEOUT_S)
        assert isinstance(answer, m.AvatarDetail)
        return answer


def request_for(detail: m.AvatarDetail, size: int = 64, **change: Any) -> m.RenderRequest:
    camera = front_camera(size)
    joints, expressions = len(detail.rig.joint_names), len(detail.rig.expression_names)
    person = m.AvatarInstance(
        "tiny",
        detail.summary.digest,
        np.eye(4)[None],
        np.zeros((1, joints, 3), np.float32),
        np.zeros((1, 3), np.float32),
        np.zeros((1, expressions), np.float32),
    )
    request = m.RenderRequest(
        "final",
        (person,),
        size,
        size,
        camera.K[None],
        camera.world_from_camera[None],
        0.05,
        10.0,
        ("combined", "depth"),
    )
    return replace(request, **change)


def test_a_picture_has_a_person_in_it(client: BackendClient, detail: m.AvatarDetail) -> None:
    frame = client.render(request_for(detail), timeout_s=TIMEOUT_S)
    combined, depth = frame.passes["combined"], frame.passes["depth"]
    assert combined.dtype == np.float16
    assert depth.dtype == np.float32
    cover = combined[..., 3].astype(np.float32)
    assert 0.2 < (cover > 0.5).mean() < 0.95
    assert np.isfinite(combined).all()
    assert np.abs(depth[cover > 0.9] - 1.0).max() < 0.6  # the camera is a metre away
    assert frame.render_ms > 0


def test_the_same_request_gives_the_same_bytes_in_the_message_and_in_shared_memory(
    client: BackendClient, detail: m.AvatarDetail
) -> None:
    request = request_for(detail, 400)
    by_memory = client.render(request, timeout_s=TIMEOUT_S)
    reply = client.request(replace(request, shared_memory=client._shared_memory), timeout_s=TIMEOUT_S)
    assert (reply.memory is not None) == client._shared_memory
    client._shared_memory = False
    by_message = client.render(request, timeout_s=TIMEOUT_S)
    for name, image in by_memory.passes.items():
        assert image.tobytes() == by_message.passes[name].tobytes()


def test_light_comes_from_the_environment_that_was_handed_over(client: BackendClient, detail: m.AvatarDetail) -> None:
    def mean(colour: tuple[float, float, float]) -> np.ndarray:
        digest = client.put_environment(np.broadcast_to(np.array(colour, np.float32), (4, 8, 3)))
        frame = client.render(request_for(detail, environment=digest, passes=("combined",)), timeout_s=TIMEOUT_S)
        image = frame.passes["combined"].astype(np.float32)
        return image[image[..., 3] > 0.9][:, :3].mean(0)

    red, blue = mean((1.0, 0.1, 0.1)), mean((0.1, 0.1, 1.0))
    assert red[0] > 2 * red[2]
    assert blue[2] > blue[0]
    for shade in range(KEPT_ENVIRONMENTS + 1):  # the first is pushed out and handed over again by the client
        mean((0.5, 0.5, 0.1 * shade))
    assert np.allclose(mean((1.0, 0.1, 0.1)), red)


def test_an_avatar_takes_the_light_that_the_picture_names_for_it(client: BackendClient, detail: m.AvatarDetail) -> None:
    red, blue = (client.put_environment(np.tile(np.float32(colour), (4, 8, 1))) for colour in ((3, 1, 1), (1, 1, 3)))
    lamp = lamps.ball((0, -1, 0), (2.0, 2.0, 2.0))[None]

    def mean(own: m.InstanceLight | None, environment: str, beside: np.ndarray = lamp) -> np.ndarray:
        request = request_for(detail, environment=environment, environment_lamps=beside, passes=("combined",))
        request = replace(request, instances=(replace(request.instances[0], light=own),))
        image = client.render(request, timeout_s=TIMEOUT_S).passes["combined"].astype(np.float32)
        return image[image[..., 3] > 0.9][:, :3].mean(0)

    captured, in_blue, unlamped = mean(None, ""), mean(None, blue), mean(None, blue, lamp[:0])
    assert in_blue[2] > 1.5 * mean(None, red)[2]
    np.testing.assert_allclose(mean(m.InstanceLight(blue), red), in_blue, rtol=1e-3)
    np.testing.assert_allclose(mean(m.InstanceLight(), red), captured, rtol=1e-3)
    np.testing.assert_allclose(mean(m.InstanceLight(blue, lamps_strength=0.0), red), unlamped, rtol=1e-3)
    np.testing.assert_allclose(mean(m.InstanceLight(blue), ""), in_blue, rtol=1e-3)


def test_orthographic_holdout_and_coverage_reach_the_renderer(client: BackendClient, detail: m.AvatarDetail) -> None:
    request = request_for(detail, passes=("combined", "coverage"))
    (person,) = request.instances
    beside = replace(person, world_from_avatar=person.world_from_avatar.copy())
    beside.world_from_avatar[0, 0, 3] = 0.1
    two = replace(request, instances=(person, beside))
    both = client.render(two, timeout_s=TIMEOUT_S).passes
    assert both["coverage"].shape == (64, 64, 2)
    np.testing.assert_allclose(both["coverage"].sum(-1), both["combined"][..., 3], atol=4e-3)
    held = client.render(replace(two, instances=(person, replace(beside, holdout=True))), timeout_s=TIMEOUT_S).passes
    np.testing.assert_allclose(held["combined"][..., 3], both["coverage"][..., 0], atol=4e-3)
    K = np.array([[[150.0, 0, 32], [0, 150.0, 32], [0, 0, 1]]])
    flat = replace(request, K=K, orthographic=True)
    back = flat.world_from_camera.copy()
    back[0, 1, 3] -= 5.0
    near, far = (
        client.render(one, timeout_s=TIMEOUT_S).passes for one in (flat, replace(flat, world_from_camera=back))
    )
    assert (near["combined"][..., 3] > 0.5).mean() > 0.2
    np.testing.assert_allclose(near["combined"], far["combined"], atol=0.05)


def test_posed_gaussians_themselves_are_handed_over(client: BackendClient, detail: m.AvatarDetail) -> None:
    (person,) = request_for(detail).instances
    cloud = client.cloud(m.PoseGaussians("splats/tiny", person), timeout_s=TIMEOUT_S)
    count = len(cloud.means)
    assert 100 < count < 5000
    assert cloud.quats.shape == (count, 4)
    assert cloud.harmonics.shape == (count, 1, 3)
    assert np.abs(np.linalg.norm(cloud.quats, axis=-1) - 1).max() < 1e-5
    turned = replace(person, rotations=person.rotations.copy())
    turned.rotations[0, list(detail.rig.joint_names).index("head"), 2] = 0.5
    other = client.cloud(m.PoseGaussians("splats/tiny", turned), timeout_s=TIMEOUT_S)
    assert np.abs(other.means - cloud.means).max() > 0.02
    digest = client.put_environment(np.broadcast_to(np.float32([1.0, 0.1, 0.1]), (4, 8, 3)))
    lit = client.cloud(m.PoseGaussians("splats/tiny", person, digest), timeout_s=TIMEOUT_S)
    assert lit.harmonics[..., 0].mean() > lit.harmonics[..., 2].mean() + 0.2
    with pytest.raises(BadMessage, match="expressions"):
        client.cloud(
            m.PoseGaussians("s", replace(person, expressions=np.zeros((2, 3), np.float32))), timeout_s=TIMEOUT_S
        )
    with pytest.raises(BadMessage, match="joints"):
        client.cloud(
            m.PoseGaussians("s", replace(person, rotations=np.zeros((1, 3, 3), np.float32))), timeout_s=TIMEOUT_S
        )


def test_a_pose_of_another_rig_is_refused(client: BackendClient, detail: m.AvatarDetail) -> None:
    request = request_for(detail)
    person = replace(request.instances[0], rotations=np.zeros((1, 99, 3), np.float32))
    with pytest.raises(BadMessage, match=r"wrong number of joints .found 99"):
        client.render(replace(request, instances=(person,)), timeout_s=TIMEOUT_S)


def test_the_newest_request_of_a_view_wins_and_other_views_are_all_served(
    server: RunningServer, detail: m.AvatarDetail
) -> None:
    with BackendClient(server.address, key=server.key) as client:
        client.render(request_for(detail), timeout_s=TIMEOUT_S)
        channel = client._frames
        assert channel is not None
        assert client.welcome is not None
        big, answers = request_for(detail, 1024, passes=("combined",)), {}
        numbers = {}
        for index in range(10):
            numbers[send(client, replace(big, view="viewport"))] = index
        numbers[send(client, replace(big, view="final"))] = "final"
        until = time.monotonic() + TIMEOUT_S
        while len(answers) < len(numbers) and time.monotonic() < until:
            if channel._socket.poll(100):
                envelope = receive(client)
                answers[numbers[envelope.request_id]] = type(envelope.message).__name__
    assert answers["final"] == "FrameReply"
    assert answers[9] == "FrameReply"
    replaced = [index for index in range(9) if answers[index] == "Superseded"]
    assert len(replaced) >= 5  # a few were begun before the next came, more on a busy machine
    assert len(answers) == 11


def send(client: BackendClient, message: Any) -> int:
    """Send on the frames channel without waiting for the answer; the request's id."""
    from shared import wire

    channel = client._frames
    assert channel is not None
    assert client.welcome is not None
    channel._last_id += 1
    parts = wire.encode(message, request_id=channel._last_id, epoch=client.welcome.epoch)
    assert channel._socket.poll(2_000, 2)
    channel._socket.send_multipart(parts)
    return channel._last_id


def receive(client: BackendClient) -> Any:
    from shared import wire

    assert client._frames is not None
    return wire.decode(client._frames._socket.recv_multipart(), limits=wire.FROM_SERVER)


def test_two_clients_get_their_own_pictures(server: RunningServer, detail: m.AvatarDetail) -> None:
    def pictures(size: int) -> set[tuple[int, ...]]:
        with BackendClient(server.address, key=server.key, name=str(size)) as client:
            return {
                client.render(request_for(detail, size), timeout_s=TIMEOUT_S).passes["combined"].shape for _ in range(6)
            }

    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(pictures, (32, 48, 64))) == [{(size, size, 4)} for size in (32, 48, 64)]


def test_cancelling_leaves_the_next_picture_right(client: BackendClient, detail: m.AvatarDetail) -> None:
    stop = threading.Event()
    stop.set()
    with pytest.raises(Cancelled):
        client.render(request_for(detail, 300), timeout_s=TIMEOUT_S, cancelled=stop.is_set)
    frame = client.render(request_for(detail, 40), timeout_s=TIMEOUT_S)
    assert frame.passes["combined"].shape == (40, 40, 4)


# --- command line ----------------------------------------------------------------------------------------------------
def test_render_command_here_and_on_the_server_agree(
    server: RunningServer, avatar_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EFFIGY_KEY", server.key)
    np.savez(tmp_path / "light.npz", radiance=np.full((4, 8, 3), 0.5, np.float32))
    options = ["--size", "72", "56", "--frames", "2", "--orbit", "60", "--environment", str(tmp_path / "light.npz")]
    here = ["render", "--avatar", str(avatar_folder), "--output", str(tmp_path / "here"), "--device", "cpu"]
    there = ["render", "--avatar", "tiny", "--output", str(tmp_path / "there"), "--server", "--address", server.address]
    assert main(here + options) == 0
    assert main(there + options) == 0
    names = ["frame_0001.png", "frame_0002.png", "still.png"]
    for folder in ("here", "there"):
        assert sorted(path.name for path in (tmp_path / folder).iterdir()) == names
    for name in names:
        one, other = (np.asarray(Image.open(tmp_path / folder / name)) for folder in ("here", "there"))
        assert one.shape == (56, 72, 4)
        assert (one[..., 3] > 200).mean() > 0.1
        assert (one == other).all()
    first, second = (np.asarray(Image.open(tmp_path / "here" / name)).astype(int) for name in names[:2])
    assert np.abs(first - second).mean() > 1


def test_render_command_refuses_what_does_not_fit(
    avatar_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez(
        tmp_path / "motion.npz",
        rotations=np.zeros((2, 3, 3)),
        translations=np.zeros((2, 3)),
        expressions=np.zeros((2, 1)),
    )
    (tmp_path / "damaged.npz").write_bytes(b"PK nonsense")
    base = ["render", "--output", str(tmp_path / "out"), "--device", "cpu"]
    cases = {
        "no avatar 'nobody'": ["--avatar", str(tmp_path / "nobody.avatar")],
        "motion of another rig": ["--avatar", str(avatar_folder), "--motion", str(tmp_path / "motion.npz")],
        "damaged.npz": ["--avatar", str(avatar_folder), "--motion", str(tmp_path / "damaged.npz")],
        "absent.npz cannot be read": ["--avatar", str(avatar_folder), "--motion", str(tmp_path / "absent.npz")],
        "size is out of range": ["--avatar", str(avatar_folder), "--size", "0", "64"],
        "fov is out of range": ["--avatar", str(avatar_folder), "--fov", "nan"],
        "frames is out of range": ["--avatar", str(avatar_folder), "--frames", "0"],
        "no such device": ["--avatar", str(avatar_folder), "--device", "tpu"],
    }
    for sentence, options in cases.items():
        assert main(base + options) == 2
        told = capsys.readouterr().err
        assert sentence in told
        assert len(told.strip().splitlines()) == 1


@pytest.mark.parametrize("yaw", [0.0, 1.0, -2.5])
@pytest.mark.parametrize("pitch", [0.0, 0.6])
@pytest.mark.parametrize("size", [(64, 64), (200, 50), (50, 200)])
def test_the_orbit_camera_has_everything_in_view(yaw: float, pitch: float, size: tuple[int, int]) -> None:
    vertices = np.random.default_rng(0).normal(0, (0.3, 0.1, 0.5), (200, 3)).astype(np.float32) + (1, 2, 3)
    K, world_from_camera, distance = cli_render.orbit_camera(vertices, *size, yaw, pitch, 0.5)
    rotation = world_from_camera[:3, :3]
    assert np.allclose(rotation @ rotation.T, np.eye(3))
    assert np.linalg.det(rotation) > 0
    seen = (np.c_[vertices, np.ones(200)] @ np.linalg.inv(world_from_camera).T)[:, :3]
    assert (seen[:, 2] > distance / 100).all()
    pixels = (seen / seen[:, 2:]) @ K.T
    assert (pixels[:, :2] > 0).all()
    assert (pixels[:, :2] < size).all()
    assert rotation[2, 1] <= 0  # the picture's down is not the world's up


def test_png_colours_are_straight_and_encoded() -> None:
    combined = np.array([[[0.25, 0.25, 0.25, 0.5], [1, 0, 2, 1], [0, 0, 0, 0]]], np.float16)
    assert cli_render.straight_srgb(combined).tolist() == [[[188, 188, 188, 128], [255, 0, 255, 255], [0, 0, 0, 0]]]


def test_light_is_read_from_an_hdri_and_doubts_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, width in (("even.exr", 8), ("narrow.exr", 4)):
        write_exr(tmp_path / name, np.full((4, width, 3), 0.5, np.float32))
    np.testing.assert_allclose(cli_render.read_radiance(tmp_path / "even.exr"), 0.5)
    assert not capsys.readouterr().err
    assert cli_render.read_radiance(tmp_path / "narrow.exr").shape == (4, 4, 3)
    assert "twice as wide as high" in capsys.readouterr().err
