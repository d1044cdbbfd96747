"""Avatar folders: what is saved comes back, and every damage gives one clear sentence."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from avatars.avatar import Avatar
from avatars.avatar_folder import About, avatar_digest, describe_avatar, load_avatar, load_preview, save_avatar
from avatars.files import sha256_of, write_folder_atomically, write_seal
from avatars.rgb_head.avatar import RgbHeadAvatar
from shared.errors import BadAvatar, EnvironmentFailed
from tests.tiny import moving, tiny_avatar, tiny_head


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_avatar(tmp_path_factory.mktemp("library"), gaussians=400)


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / saved.name))


def edit(folder: Path, change: Callable[[dict], None]) -> None:
    document = json.loads((folder / "avatar.json").read_text())
    change(document)
    (folder / "avatar.json").write_text(json.dumps(document))
    write_seal(folder / "avatar.json")


def test_a_saved_avatar_comes_back_bit_for_bit(saved: Path) -> None:
    avatar = load_avatar(saved)
    assert isinstance(avatar, Avatar)
    original = tiny_head(400)
    motion = moving(3, original)
    with torch.no_grad():
        expected, found = original.pose(**motion), avatar.pose(**motion)
    for name in ("means", "quats", "scales", "opacities", "colours", "normals"):
        assert torch.equal(getattr(expected, name), getattr(found, name)), name


def test_rig_and_proxy_fit_the_template(saved: Path) -> None:
    avatar = load_avatar(saved)
    rig, proxy = avatar.rig(), avatar.proxy()
    assert rig.joint_names[0] == "spine3"
    assert avatar.rest_pose.shape == (len(rig.joint_names), 3)
    np.testing.assert_allclose(proxy.weights.sum(1), 1, atol=1e-5)
    assert proxy.joints.max() < len(rig.joint_names)
    assert proxy.expression_offsets.shape[0] == len(rig.expression_names)
    blue = proxy.colour[np.unique(proxy.faces[proxy.group == proxy.group_names.index("tights")])]
    lit = blue[(blue != blue[0]).any(1)] if len(blue) else blue
    assert lit[:, 2].mean() > lit[:, 0].mean()


def test_the_description_is_cheap_and_complete(saved: Path) -> None:
    summary = describe_avatar(saved)
    assert (summary.avatar_id, summary.name, summary.method, summary.problem) == ("tiny", "tiny", "rgb_head", "")
    assert summary.digest == avatar_digest(saved)
    assert summary.metrics == {"psnr_db": 0.0, "ssim": 0.0}
    preview = load_preview(saved)
    assert preview.shape == (64, 64, 4)
    assert 0 < (preview[..., 3] > 128).mean() < 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: (f / "avatar.json").unlink(), "there is no avatar"),
        (lambda f: (f / "weights.safetensors").unlink(), "weights.safetensors is missing"),
        (lambda f: (f / "avatar.json").write_text("{"), "no JSON"),
        (lambda f: (f / "avatar.json").write_text("[1]"), "is no avatar"),
        (lambda f: edit(f, lambda d: d.update(version=2)), "another version"),
        (lambda f: edit(f, lambda d: d.pop("rig")), "lacks 'rig'"),
        (lambda f: edit(f, lambda d: d["template"].update(digest="0" * 64)), "has changed since"),
        (lambda f: edit(f, lambda d: d["template"].pop("shape")), "note of the template is damaged"),
        (lambda f: (f / "weights.safetensors").write_bytes(b"x" * 10), "has 10 bytes instead of"),
    ],
)
def test_damage_is_named_by_load_and_by_describe(folder: Path, change: Callable[[Path], None], message: str) -> None:
    change(folder)
    with pytest.raises(BadAvatar, match=message):
        load_avatar(folder)
    assert message in describe_avatar(folder).problem


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadAvatar, match="there is no avatar"):
        load_avatar(tmp_path / "nobody.avatar")
    assert "there is no avatar" in describe_avatar(tmp_path / "nobody.avatar").problem


def flip_last_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def test_one_flipped_bit_is_found(folder: Path) -> None:
    flip_last_byte(folder / "weights.safetensors")
    with pytest.raises(BadAvatar, match="not the file that was saved"):
        load_avatar(folder)
    flip_last_byte(folder / "preview.png")
    with pytest.raises(BadAvatar, match="not the file that was saved"):
        load_preview(folder)


def reseal(folder: Path, tensors: dict[str, torch.Tensor]) -> None:
    from safetensors.torch import save_file

    path = folder / "weights.safetensors"
    save_file(tensors, str(path))
    entry = {"sha256": sha256_of(path), "bytes": path.stat().st_size}
    edit(folder, lambda d: d["files"].update({path.name: entry}))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("positions", torch.zeros(3, 3), "another form"),
        ("positions", None, "lack 'positions'"),
        ("positions", torch.zeros(1, dtype=torch.float64), "another form"),
        ("network.0.weight", torch.zeros(2, 2), "another form"),
        ("driving.mean", None, "lack 'driving.mean'"),
    ],
)
def test_weights_of_another_shape_are_refused(
    folder: Path, name: str, value: torch.Tensor | None, message: str
) -> None:
    from safetensors.torch import load_file

    tensors = load_file(str(folder / "weights.safetensors"))
    tensors.pop(name)
    if value is not None:
        tensors[name] = value
    reseal(folder, tensors)
    with pytest.raises(BadAvatar, match=message):
        load_avatar(folder)


def test_weights_that_point_nowhere_or_are_not_finite_are_refused(folder: Path) -> None:
    from safetensors.torch import load_file

    tensors = load_file(str(folder / "weights.safetensors"))
    reseal(folder, tensors | {"binding.face": tensors["binding.face"] + 10**6})
    with pytest.raises(BadAvatar, match="outside the template"):
        load_avatar(folder)
    reseal(folder, tensors | {"positions": torch.full_like(tensors["positions"], torch.nan)})
    with pytest.raises(BadAvatar, match="not finite"):
        load_avatar(folder)


def test_an_unknown_method_names_the_nearest(folder: Path) -> None:
    edit(folder, lambda d: d.update(method="rgb_heat"))
    with pytest.raises(BadAvatar, match="did you mean 'rgb_head'"):
        load_avatar(folder)


def test_saving_replaces_an_avatar_but_nothing_else(tmp_path: Path) -> None:
    path = tiny_avatar(tmp_path, gaussians=300)
    before = avatar_digest(path)
    save_avatar(path, RgbHeadAvatar(tiny_head(300, seed=1)), About("again"), np.zeros((8, 8, 4), np.uint8))
    assert avatar_digest(path) != before
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
    (tmp_path / "mine").mkdir()
    with pytest.raises(BadAvatar, match="is no avatar"):
        save_avatar(tmp_path / "mine", RgbHeadAvatar(tiny_head(300)), About("x"), np.zeros((8, 8, 4), np.uint8))


def test_a_write_that_fails_keeps_the_old_folder(tmp_path: Path) -> None:
    target = tmp_path / "thing"
    write_folder_atomically(target, lambda folder: (folder / "a").write_text("old") and None)

    def fail(folder: Path) -> None:
        (folder / "a").write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(EnvironmentFailed, match="No space left"):
        write_folder_atomically(target, fail)
    assert (target / "a").read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["thing"]
