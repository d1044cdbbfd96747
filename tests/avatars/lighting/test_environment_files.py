"""Environment files: numbers as written, orientation kept, and light that cannot be refused in one sentence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from avatars.lighting.environment_files import BRIGHTEST, read_environment, write_exr
from shared.errors import BadEnvironment
from tests.body_layouts import flat_hdr


def picture() -> np.ndarray:
    """[8, 16, 3]: dim, with one bright texel in row 2, column 3."""
    radiance = np.random.default_rng(0).uniform(0.05, 1, (8, 16, 3)).astype(np.float32)
    radiance[2, 3] = (900.0, 500.0, 100.0)
    return radiance


def coded(radiance: np.ndarray) -> bytes:
    """Radiance's run-length coding of the flat picture, with one run and one row of literals a channel."""
    flat = flat_hdr(radiance)
    head, _, data = flat.partition(b"+X 16\n")
    rows = np.frombuffer(data, np.uint8).reshape(8, 16, 4)
    out = b""
    for row in rows:
        out += bytes((2, 2, 0, 16))
        for channel in range(4):
            values = row[:, channel]
            if (values == values[0]).all():
                out += bytes((128 + 16, int(values[0])))
            else:
                out += bytes((10,)) + values[:10].tobytes() + bytes((6,)) + values[10:].tobytes()
    return head + b"+X 16\n" + out


@pytest.mark.parametrize("how", [flat_hdr, coded])
def test_hdr_is_read(tmp_path: Path, how: object) -> None:
    (tmp_path / "sky.hdr").write_bytes(how(picture()))  # type: ignore[operator]
    environment, notes = read_environment(tmp_path / "sky.hdr")
    np.testing.assert_allclose(environment.radiance, picture(), rtol=0.02, atol=4.0 / 256 * 8)
    assert np.unravel_index(environment.radiance[..., 0].argmax(), (8, 16)) == (2, 3)
    assert notes == ()


def test_hdr_directions_and_exposure(tmp_path: Path) -> None:
    content = flat_hdr(picture()).replace(b"\n\n-Y 8 +X 16", b"\nEXPOSURE=2\n\n+Y 8 -X 16")
    (tmp_path / "sky.hdr").write_bytes(content)
    environment, _ = read_environment(tmp_path / "sky.hdr")
    np.testing.assert_allclose(environment.radiance, picture()[::-1, ::-1] / 2, rtol=0.02, atol=0.1)


def test_exr_is_read_back(tmp_path: Path) -> None:
    write_exr(tmp_path / "sky.exr", picture())
    environment, notes = read_environment(tmp_path / "sky.exr")
    np.testing.assert_array_equal(environment.radiance, picture())
    assert notes == ()


def test_an_ordinary_picture_is_taken_with_a_warning(tmp_path: Path) -> None:
    Image.fromarray(np.full((8, 16, 3), 188, np.uint8)).save(tmp_path / "sky.png")
    environment, notes = read_environment(tmp_path / "sky.png")
    np.testing.assert_allclose(environment.radiance, 0.5029, atol=1e-3)
    assert "ordinary picture" in notes[0]


def test_slight_ringing_becomes_zero(tmp_path: Path) -> None:
    radiance = picture()
    radiance[0, 0] = -0.1
    write_exr(tmp_path / "sky.exr", radiance)
    assert read_environment(tmp_path / "sky.exr")[0].radiance[0, 0].max() == 0


@pytest.mark.parametrize(
    ("value", "said"), [(np.nan, "no number"), (np.inf, "no number"), (-50.0, "negative"), (2 * BRIGHTEST, "absurdly")]
)
def test_light_that_cannot_be_is_refused(tmp_path: Path, value: float, said: str) -> None:
    radiance = picture()
    radiance[5, 1] = value
    write_exr(tmp_path / "sky.exr", radiance)
    with pytest.raises(BadEnvironment, match=said):
        read_environment(tmp_path / "sky.exr")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.hdr", flat_hdr(picture())[:200], "ends too early"),
        ("a.hdr", coded(picture())[:-30], "ends too early"),
        ("a.hdr", b"P6 1 1 255 abc", "no Radiance"),
        ("a.hdr", b"#?RADIANCE\n\n-Y 99999999 +X 99999999\n", "impossible size"),
        ("a.exr", b"v/1\x01 nonsense", "no intact EXR"),
        ("a.png", b"nonsense", "cannot be read"),
        ("a.txt", b"", "no environment picture"),
    ],
)
def test_damaged_files_are_one_sentence(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BadEnvironment, match=said):
        read_environment(tmp_path / name)


def test_a_missing_file_is_said() -> None:
    with pytest.raises(BadEnvironment, match="cannot be read"):
        read_environment(Path("nowhere.hdr"))
