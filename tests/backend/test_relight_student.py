"""`relight distill`, `render` and `speed` from the command line, with the original's words beside our options."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from avatars.avatar_folder import About, save_avatar
from backend.cli import main
from backend.relight_words import read_words, split_words
from shared.errors import BadConfig
from tests.avatars.relit_files import painted_avatar, painted_capture


@pytest.fixture(scope="module")
def avatar(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("epoch=219-step=25") / "painted.avatar"
    save_avatar(folder, painted_avatar(), About("painted"), np.zeros((8, 8, 4), np.uint8))
    return folder


def test_words_and_the_avatar_are_told_apart(avatar: Path) -> None:
    words, loose = split_words([str(avatar), "+explicit_branch.hdri=a=b.hdr", "explicit_branch.mode=test"])
    assert loose == str(avatar)  # a path that is there is no setting, for all its signs
    asked = read_words(words, ("avatar", "hdri"))
    assert dict(asked.values) == {"hdri": "a=b.hdr"}
    asked = read_words([rf"explicit_branch.load_ckpt={str(avatar).replace('=', chr(92) + '=')}"], ("avatar",))
    assert asked.values["avatar"] == str(avatar)
    with pytest.raises(BadConfig, match="several avatars"):
        split_words(["a", "b"])
    with pytest.raises(BadConfig, match="does not belong"):
        read_words(["explicit_branch.load_ckpt=x"], ("hdri",))


def test_relit_pictures_in_the_originals_words(
    avatar: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sky = np.zeros((16, 32, 3), np.float32)
    sky[:, 12:20] = 4.0  # towards +x, the right of the picture
    np.savez(tmp_path / "sky.npz", radiance=sky)
    words = [
        f"explicit_branch.load_ckpt={avatar}", f"+explicit_branch.hdri={tmp_path / 'sky.npz'}",
        "--size", "64", "--frames", "2", "--turn", "360", "--passes", "combined,albedo,depth,occlusion",
        "--output", str(tmp_path / "out"), "--device", "cpu",
    ]  # fmt: skip
    assert main(["relight", "render", *words]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "out")
    lit = []
    for number in (0, 1):
        picture = np.asarray(Image.open(tmp_path / "out" / "combined" / f"{number:05d}.png")).astype(float)
        assert picture.shape == (64, 64, 4)
        solid = picture[..., :3].sum(-1) * (picture[..., 3] > 250)
        lit.append((solid[:, :32].sum(), solid[:, 32:].sum()))
    assert lit[0][1] > 1.2 * lit[0][0]
    assert lit[1][0] > 1.2 * lit[1][1]  # the light went half way round
    depth = np.load(tmp_path / "out" / "depth" / "00001.npy")
    assert depth.shape == (64, 64)
    assert depth.max() > 1
    albedo = [(tmp_path / "out" / "albedo" / f"0000{number}.png").read_bytes() for number in (0, 1)]
    assert albedo[0] == albedo[1]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["render", "--size", "64"], "Name an avatar"),
        (["render", "nobody", "--passes", "depth,gloss"], "gloss"),
        (["render", "AVATAR", "--rotation", "20"], "belong to --hdri"),
        (["render", "AVATAR", "--hdri", "missing.hdr"], "missing.hdr cannot be read"),
        (["distill", "--teacher", "painted"], "no recording is given"),
        (["distill", "training_mode=teacher", "--capture", "demo_relight"], "training_mode=teacher"),
        (["distill", "--capture", "demo_relight", "--preset", "tiny"], "distils no student"),
        (["distill", "--capture", "demo_relight", "--teacher", "gone.teacher"], "gone"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(
    words: list[str], said: str, avatar: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [str(avatar) if word == "AVATAR" else word for word in words]
    assert main(["relight", *given, "--output", str(tmp_path), "--device", "cpu"]) == 2
    assert said in capsys.readouterr().err


def test_distilling_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "capture").mkdir()
    painted_capture(tmp_path / "capture", 32)
    words = [
        "training_mode=distill", f"explicit_branch/dataset={tmp_path / 'capture'}", "explicit_branch.tag=ada",
        "--teacher", "painted", "--preset", "relit_body_tiny", "--set", "schedule.images=4", "--set", "size_px=32",
        "--set", "schedule.sizes_px=[32]", "--set", "relit.surfels=200", "--set", "relit.spare=20",
        "--set", "relit.probe_side=3", "--set", "relit.further=1", "--set", "reporting.curve_points=0",
        "--output", str(tmp_path / "out"), "--device", "cpu",
    ]  # fmt: skip
    assert main(["relight", "distill", *words]) == 0
    assert (tmp_path / "out" / "ada.avatar" / "avatar.json").is_file()
    assert "ada.avatar" in capsys.readouterr().out.replace("\n", "")
