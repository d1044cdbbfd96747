"""Splat PLY and SPZ: layout, axes, quantisation, a second implementation, and damaged files."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from avatars.formats.ply import ply_properties
from avatars.formats.splat_ply import read_splat_ply, splats_from_table, write_splat_ply
from avatars.formats.splats import FROM_Z_UP, Splats, splats_of
from avatars.formats.spz import packed_spz, read_spz, unpacked_spz, write_spz
from avatars.gaussians.posed import PosedGaussians, ViewColours
from avatars.gaussians.spherical_harmonics import coefficients_of, sh_colours
from avatars.templates.rotations import matrices_from_axis_angle
from shared.errors import BadAvatar

HALF_STEP = 0.5000001


def random_splats(count: int = 200, degree: int = 3, seed: int = 0) -> Splats:
    generator = np.random.default_rng(seed)

    def normal(*shape: int) -> np.ndarray:
        return generator.normal(size=shape).astype(np.float32)

    return Splats(
        positions=0.3 * normal(count, 3),
        rotations=normal(count, 4),
        log_scales=-6 + normal(count, 3),
        logits=2 * normal(count),
        sh=0.3 * normal(count, coefficients_of(degree), 3),
    )


def same_rotations(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """|cos| of half the angle between quaternions."""
    a, b = (q / np.linalg.norm(q, axis=1, keepdims=True) for q in (a, b))
    return np.abs((a * b).sum(1))


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_a_splat_ply_has_the_viewers_columns_and_comes_back(tmp_path: Path, degree: int) -> None:
    splats = random_splats(degree=degree)
    path = tmp_path / "a.ply"
    write_splat_ply(path, splats, ["axes z-up"])
    names = ply_properties(path)
    assert names[:9] == ("x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2")
    assert names[9:54] == tuple(f"f_rest_{number}" for number in range(45))
    assert names[54:] == ("opacity", *(f"scale_{n}" for n in range(3)), *(f"rot_{n}" for n in range(4)))
    again = read_splat_ply(path)
    for name in ("positions", "rotations", "log_scales", "logits"):
        assert getattr(again, name).tobytes() == getattr(splats, name).tobytes()
    np.testing.assert_array_equal(again.sh[:, : splats.sh.shape[1]], splats.sh)
    assert not again.sh[:, splats.sh.shape[1] :].any()


def test_harmonics_lie_channel_by_channel(tmp_path: Path) -> None:
    splats = random_splats(3, degree=1)
    table = np.zeros(3, [(name, "<f4") for name in ("x", "y", "z", "opacity")])
    names = [f"f_dc_{n}" for n in range(3)] + [f"f_rest_{n}" for n in range(9)]
    names += [f"scale_{n}" for n in range(3)] + [f"rot_{n}" for n in range(4)]
    table = np.zeros(3, table.dtype.descr + [(name, "<f4") for name in names])
    for channel in range(3):
        for band in range(3):
            table[f"f_rest_{3 * channel + band}"] = splats.sh[:, 1 + band, channel]
    np.testing.assert_array_equal(splats_from_table(table, tmp_path).sh[:, 1:], splats.sh[:, 1:])
    with pytest.raises(BadAvatar, match=r"unknown degree .*found 7 columns"):
        splats_from_table(table[[name for name in table.dtype.names if name not in ("f_rest_7", "f_rest_8")]], tmp_path)


@pytest.mark.parametrize("axes", ["z-up", "y-up", "y-down"])
def test_other_axes_turn_everything_together(axes: str) -> None:
    splats = random_splats(50)
    turned = splats.in_axes(axes)
    matrix = torch.from_numpy(FROM_Z_UP[axes]).float()
    assert torch.linalg.det(matrix) == pytest.approx(1.0)
    np.testing.assert_allclose(turned.positions, splats.positions @ matrix.numpy().T, atol=1e-7)
    seen = torch.nn.functional.normalize(torch.randn(50, 3, generator=torch.Generator().manual_seed(0)), dim=-1)
    before = sh_colours(torch.from_numpy(splats.sh), seen)
    torch.testing.assert_close(sh_colours(torch.from_numpy(turned.sh), seen @ matrix.T), before, atol=1e-5, rtol=0)
    unit = torch.nn.functional.normalize(torch.from_numpy(splats.rotations), dim=-1)
    angle = 2 * torch.arccos(unit[:, :1].clamp(-1, 1))
    axis = torch.nn.functional.normalize(unit[:, 1:], dim=-1)
    original = matrices_from_axis_angle(axis * angle)
    unit = torch.nn.functional.normalize(torch.from_numpy(turned.rotations), dim=-1)
    angle = 2 * torch.arccos(unit[:, :1].clamp(-1, 1))
    after = matrices_from_axis_angle(torch.nn.functional.normalize(unit[:, 1:], dim=-1) * angle)
    torch.testing.assert_close(after, matrix @ original, atol=1e-4, rtol=0)


def test_the_face_looks_where_each_kind_of_axes_says() -> None:
    face, crown = np.array([0.0, -1, 0]), np.array([0.0, 0, 1])
    for axes, looks, up in (("y-up", (0, 0, 1), (0, 1, 0)), ("y-down", (0, 0, -1), (0, -1, 0))):
        np.testing.assert_allclose(FROM_Z_UP[axes] @ face, looks)
        np.testing.assert_allclose(FROM_Z_UP[axes] @ crown, up)


def posed(view_dependent: bool) -> PosedGaussians:
    generator = torch.Generator().manual_seed(0)
    count = 12
    turn = matrices_from_axis_angle(torch.tensor([[0.2, 0.5, -0.3]]))
    coefficients = 0.2 * torch.randn(1, count, 16, 3, generator=generator)
    opacities = torch.linspace(0, 1, count)[None]
    return PosedGaussians(
        means=torch.randn(1, count, 3, generator=generator),
        quats=torch.nn.functional.normalize(torch.randn(1, count, 4, generator=generator), dim=-1),
        scales=torch.rand(1, count, 3, generator=generator) + 0.01,
        opacities=opacities,
        colours=torch.rand(1, count, 3, generator=generator),
        view_colours=ViewColours(coefficients, turn) if view_dependent else None,
    )


@pytest.mark.parametrize("view_dependent", [False, True])
def test_a_posed_frame_becomes_splats_of_the_same_look(view_dependent: bool) -> None:
    gaussians = posed(view_dependent)
    splats = splats_of(gaussians)
    assert len(splats) == 11  # the first is invisible
    camera = torch.tensor([[2.0, -3.0, 0.5]])
    colours = sh_colours(torch.from_numpy(splats.sh), torch.from_numpy(splats.positions) - camera)
    torch.testing.assert_close(colours, gaussians.seen_from(camera).colours[0, 1:], atol=1e-5, rtol=0)
    torch.testing.assert_close(torch.from_numpy(splats.log_scales).exp(), gaussians.scales[0, 1:])
    torch.testing.assert_close(
        torch.sigmoid(torch.from_numpy(splats.logits)), gaussians.opacities[0, 1:], atol=1e-5, rtol=0
    )


@pytest.mark.parametrize("degree", [0, 1, 3])
def test_spz_comes_back_within_its_quantisation(tmp_path: Path, degree: int) -> None:
    splats = random_splats(500, degree)
    path = tmp_path / "a.spz"
    write_spz(path, splats)
    again = read_spz(path)
    assert again.degree == degree
    np.testing.assert_allclose(again.positions, splats.positions, atol=HALF_STEP / 2**16)
    np.testing.assert_allclose(again.log_scales, splats.log_scales.clip(-10, 255 / 16 - 10), atol=HALF_STEP / 16)
    alpha, before = (1 / (1 + np.exp(-s.logits.astype(float))) for s in (again, splats))
    np.testing.assert_allclose(alpha, before, atol=1.1 * HALF_STEP / 255)
    np.testing.assert_allclose(again.sh[:, 0], splats.sh[:, 0], atol=HALF_STEP / 255 / 0.15)
    np.testing.assert_allclose(again.sh[:, 1:4], splats.sh[:, 1:4].clip(-1, 1), atol=8 / 128)
    np.testing.assert_allclose(again.sh[:, 4:], splats.sh[:, 4:].clip(-1, 1), atol=16 / 128)
    assert (same_rotations(again.rotations, splats.rotations) > np.cos(0.003)).all()
    assert packed_spz(again) == packed_spz(unpacked_spz(packed_spz(again), path))  # quantised once, never again


def test_spz_keeps_far_splats_by_giving_up_fine_steps(tmp_path: Path) -> None:
    splats = random_splats(20, 0)
    far = Splats(1000 * splats.positions, splats.rotations, splats.log_scales, splats.logits, splats.sh)
    write_spz(tmp_path / "far.spz", far)
    np.testing.assert_allclose(read_spz(tmp_path / "far.spz").positions, far.positions, atol=HALF_STEP / 2**12)
    lost = Splats(1e9 * splats.positions, splats.rotations, splats.log_scales, splats.logits, splats.sh)
    with pytest.raises(BadAvatar, match="too far away"):
        packed_spz(lost)


def test_an_empty_set_and_a_zero_quaternion_are_written(tmp_path: Path) -> None:
    splats = random_splats(0, 2)
    write_spz(tmp_path / "none.spz", splats)
    assert len(read_spz(tmp_path / "none.spz")) == 0
    one = random_splats(1, 0)
    one.rotations[:] = 0
    np.testing.assert_allclose(unpacked_spz(packed_spz(one), tmp_path).rotations, [[1, 0, 0, 0]], atol=1e-6)


def test_another_implementation_reads_what_we_write_and_we_read_what_it_writes(tmp_path: Path) -> None:
    gaussforge = pytest.importorskip("gaussforge", reason="gaussforge is not installed (extra 'interop')")
    splats = random_splats(300, 3)
    ply, spz = tmp_path / "a.ply", tmp_path / "a.spz"
    write_splat_ply(ply, splats)
    write_spz(spz, splats)
    forge = gaussforge.GaussForge()
    theirs = forge.convert(spz.read_bytes(), "spz", "ply")["data"]
    (tmp_path / "theirs.ply").write_bytes(theirs)
    read = read_splat_ply(tmp_path / "theirs.ply")
    ours = read_spz(spz)
    if np.abs(read.positions - ours.positions).max() > 0.01:  # it takes PLY files to be y-down, as captures are
        ours = ours.turned(np.diag([1.0, -1.0, -1.0]))
    np.testing.assert_allclose(read.positions, ours.positions, atol=1e-5)
    np.testing.assert_allclose(read.log_scales, ours.log_scales, atol=1e-5)
    np.testing.assert_allclose(read.sh, ours.sh, atol=1e-5)
    assert (same_rotations(read.rotations, ours.rotations) > 1 - 1e-6).all()
    inside = (ours.logits > -5) & (ours.logits < 5)  # the ends of the scale stand for plus and minus infinity there
    np.testing.assert_allclose(read.logits[inside], ours.logits[inside], atol=1e-4)

    (tmp_path / "theirs.spz").write_bytes(forge.convert(ply.read_bytes(), "ply", "spz")["data"])
    back = read_spz(tmp_path / "theirs.spz")
    if np.abs(back.positions - splats.positions).max() > 0.01:
        back = back.turned(np.diag([1.0, -1.0, -1.0]))
    np.testing.assert_allclose(back.positions, splats.positions, atol=1.1 * HALF_STEP / 2**12)
    np.testing.assert_allclose(back.log_scales, splats.log_scales.clip(-10, 5.9375), atol=1.01 / 16)
    assert (same_rotations(back.rotations, splats.rotations) > np.cos(0.003)).all()
    np.testing.assert_allclose(back.sh[:, 4:], splats.sh[:, 4:].clip(-1, 1), atol=16.01 / 128)


DAMAGED = packed_spz(random_splats(4, 1))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "cut off or too large"),
        (b"plain", "no SPZ file, or damaged"),
        (gzip.compress(DAMAGED, mtime=0)[:-9], "cut off or too large"),
        (gzip.compress(DAMAGED, mtime=0) + b"x", "cut off or too large"),
        (gzip.compress(b"short", mtime=0), "is cut off"),
        (gzip.compress(b"x" * 40, mtime=0), "is no SPZ file"),
        (gzip.compress(DAMAGED[:-1], mtime=0), "does not hold what its header says"),
        (
            gzip.compress(DAMAGED[:8] + struct.pack("<I", 2**32 - 1) + DAMAGED[12:], mtime=0),
            "does not hold what its header",
        ),
        (gzip.compress(DAMAGED[:12] + b"\x09" + DAMAGED[13:], mtime=0), "does not hold what its header says"),
        (gzip.compress(DAMAGED[:4] + struct.pack("<I", 2) + DAMAGED[8:], mtime=0), "another version .*found 2"),
        (b"NGSP" + struct.pack("<I", 4) + bytes(40), "later version"),
    ],
)
def test_damaged_spz_files_are_refused_in_a_sentence(tmp_path: Path, content: bytes, sentence: str) -> None:
    path = tmp_path / "bad.spz"
    path.write_bytes(content)
    with pytest.raises(BadAvatar, match=r"bad\.spz .*" + sentence):
        read_spz(path)
    with pytest.raises(BadAvatar, match=r"gone\.spz cannot be read"):
        read_spz(tmp_path / "gone.spz")
