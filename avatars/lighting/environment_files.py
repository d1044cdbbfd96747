"""Environment pictures from files: Radiance .hdr, OpenEXR .exr, and ordinary pictures with a warning.

Row 0 is up (+z), as in `shared.types.Environment`. Light that cannot be (NaN, negative, absurd) is refused: one such
pixel would spread over everything it lights.
"""

from __future__ import annotations

import io
import re
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from avatars.picture_files import open_picture
from shared.errors import BadEnvironment
from shared.types import Environment

MAX_FILE_BYTES = 1 << 29
MAX_PIXELS = 1 << 27
BRIGHTEST = 1e7
"""Radiance above this is a fault of the file: the unclipped sun of a measured sky is about 1e5."""
NEGATIVE_NOISE = 1e-3
"""Filters of measured pictures ring below zero by less than this part of the brightest pixel; that much becomes 0."""
ORDINARY = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
_SIZE = re.compile(rb"([-+])Y (\d+) ([-+])X (\d+)")


def read_environment(path: Path) -> tuple[Environment, tuple[str, ...]]:
    """The light in a latitude-longitude picture, and sentences about what is doubtful. Raises BadEnvironment."""
    path = Path(path).expanduser()
    try:
        size = path.stat().st_size
        content = path.read_bytes() if size <= MAX_FILE_BYTES else b""
    except OSError as error:
        raise BadEnvironment(
            f"{path} cannot be read", found=error.strerror or str(error), do="Check the path"
        ) from error
    if size > MAX_FILE_BYTES:
        raise BadEnvironment(f"{path.name} is too large", found=f"{size} bytes", expected=f"at most {MAX_FILE_BYTES}")
    notes: list[str] = []
    suffix = path.suffix.lower()
    if suffix in (".hdr", ".pic", ".rgbe"):
        radiance = radiance_hdr(content, path.name)
    elif suffix == ".exr":
        radiance = _exr(content, path.name)
    elif suffix in ORDINARY:
        radiance = _ordinary(content, path.name)
        notes.append(
            f"{path.name} is an ordinary picture: what is brighter than white is missing, so lights will look weak."
        )
    else:
        raise BadEnvironment(f"{path.name} is no environment picture", found=suffix, expected=".hdr, .exr or a picture")
    return Environment(checked_radiance(radiance, path.name, notes)), tuple(notes)


def checked_radiance(radiance: NDArray[np.float32], name: str, notes: list[str]) -> NDArray[np.float32]:
    """The radiance [H, W, 3] with slight ringing below zero cut off; doubts go to `notes`. Raises BadEnvironment."""
    if radiance.ndim != 3 or radiance.shape[2] != 3 or min(radiance.shape[:2]) < 1:
        raise BadEnvironment(f"{name} is no colour picture", found=str(list(radiance.shape)), expected="[H, W, 3]")
    bad = ~np.isfinite(radiance).all(-1)
    if bad.any():
        raise BadEnvironment(
            f"{name} holds light that is no number",
            found=f"{int(bad.sum())} pixels, the first in row {int(np.argmax(bad.any(1)))}",
            expected="finite values",
            do="Export it again, or paint those pixels over",
        )
    brightest, darkest = float(radiance.max()), float(radiance.min())
    if brightest > BRIGHTEST:
        raise BadEnvironment(
            f"{name} is absurdly bright",
            found=f"{brightest:.3g}",
            expected=f"at most {BRIGHTEST:g}",
            do="Check the file",
        )
    if darkest < -max(NEGATIVE_NOISE * brightest, 1e-6):
        raise BadEnvironment(
            f"{name} holds negative light", found=f"{darkest:.3g}", expected="0 and above", do="Export it again"
        )
    height, width = radiance.shape[:2]
    if abs(width - 2 * height) > 0.1 * width:
        notes.append(f"{name} is {width}x{height}; a latitude-longitude picture is twice as wide as high.")
    if brightest == 0:
        notes.append(f"{name} is black: nothing will be lit.")
    return np.maximum(radiance, 0)


def radiance_hdr(content: bytes, name: str) -> NDArray[np.float32]:
    """Radiance [H, W, 3] linear of an RGBE picture (Ward 1991), run-length coded or flat. Raises BadEnvironment."""
    head, found, rest = content.partition(b"\n\n")
    match = _SIZE.match(rest[:80])
    if not content.startswith((b"#?RADIANCE", b"#?RGBE")) or not found or match is None:
        raise BadEnvironment(
            f"{name} is no Radiance picture", expected="'#?RADIANCE' and its size '-Y height +X width'"
        )
    if b"32-bit_rle_xyze" in head:
        raise BadEnvironment(f"{name} holds XYZ colours", expected="RGBE", do="Export it as RGBE")
    height, width = int(match[2]), int(match[4])
    if not (0 < height * width <= MAX_PIXELS) or rest.find(b"\n") < 0:
        raise BadEnvironment(f"{name} has an impossible size", found=f"{width}x{height}")
    data = np.frombuffer(rest, np.uint8, offset=rest.find(b"\n") + 1)
    try:
        rgbe = _scanlines(data, width, height)
    except (IndexError, ValueError) as error:
        raise BadEnvironment(
            f"{name} ends too early or is damaged", found=str(error)[:80], do="Copy it again"
        ) from error
    exposure = 1.0
    for line in head.split(b"\n"):
        if line.startswith(b"EXPOSURE="):
            try:
                exposure *= float(line[9:])
            except ValueError as error:
                raise BadEnvironment(f"{name} has an exposure that is no number", found=repr(line[9:40])) from error
    if not (np.isfinite(exposure) and exposure > 0):
        raise BadEnvironment(f"{name} has an impossible exposure", found=str(exposure))
    scale = np.ldexp(1.0, rgbe[..., 3].astype(np.int32) - 136) / exposure
    scale[rgbe[..., 3] == 0] = 0
    with np.errstate(over="ignore"):
        radiance = (rgbe[..., :3].astype(np.float64) * scale[..., None]).astype(np.float32)
    radiance = radiance[::-1] if match[1] == b"+" else radiance
    return np.ascontiguousarray(radiance[:, ::-1] if match[3] == b"-" else radiance)


def _scanlines(data: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    """[H, W, 4] bytes. Raises ValueError or IndexError where the data does not suffice."""
    out = np.empty((height, width, 4), np.uint8)
    at = 0
    coded = 8 <= width < 32768 and len(data) >= 4 and data[0] == 2 and data[1] == 2 and data[2] < 128
    if not coded:
        if len(data) < out.size:
            raise ValueError(f"{len(data)} bytes of {out.size}")
        return data[: out.size].reshape(out.shape).copy()
    for row in range(height):
        if data[at] != 2 or data[at + 1] != 2 or (int(data[at + 2]) << 8 | int(data[at + 3])) != width:
            raise ValueError(f"row {row} has no start")
        at += 4
        for channel in range(4):
            x = 0
            while x < width:
                count = int(data[at])
                run = count > 128
                count = count - 128 if run else count
                if count == 0 or x + count > width:
                    raise ValueError(f"a run in row {row} does not fit")
                values = data[at + 1 : at + 2] if run else data[at + 1 : at + 1 + count]
                if len(values) != (1 if run else count):
                    raise ValueError(f"row {row} ends early")
                out[row, x : x + count, channel] = values
                at += 2 if run else 1 + count
                x += count
    return out


def _exr(content: bytes, name: str) -> NDArray[np.float32]:
    import OpenEXR  # a wheel of its own, wanted by nobody without such files

    with tempfile.TemporaryDirectory() as folder:  # the library opens files only
        copy = Path(folder) / "environment.exr"
        copy.write_bytes(content)
        try:
            window = OpenEXR.File(str(copy), header_only=True).header()["dataWindow"]
            width, height = (int(high) - int(low) + 1 for low, high in zip(*window, strict=True))
            if not (0 < width * height <= MAX_PIXELS):
                raise BadEnvironment(f"{name} has an impossible size", found=f"{width}x{height}")
            channels = OpenEXR.File(str(copy), separate_channels=True).channels()
            named = {str(key): channel.pixels for key, channel in channels.items()}
        except (RuntimeError, OSError, ValueError, KeyError, TypeError) as error:
            raise BadEnvironment(f"{name} is no intact EXR picture", found=str(error)[:120]) from error
    keys = [next((key for key in named if key.split(".")[-1] == letter), "") for letter in "RGB"]
    if not all(keys):
        raise BadEnvironment(f"{name} has no colours", found=", ".join(named), expected="channels R, G, B")
    return np.stack([np.asarray(named[key], np.float32) for key in keys], -1)


def _ordinary(content: bytes, name: str) -> NDArray[np.float32]:
    with open_picture(io.BytesIO(content), name, BadEnvironment) as image:
        if image.width * image.height > MAX_PIXELS:
            raise BadEnvironment(f"{name} has an impossible size", found=f"{image.width}x{image.height}")
        values = np.asarray(image.convert("RGB"), np.float32) / 255
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4).astype(np.float32)


def write_exr(path: Path, radiance: NDArray[np.float32]) -> None:
    """Write [H, W, 3] linear float32 as an OpenEXR picture, whole or not at all. Raises EnvironmentFailed."""
    import OpenEXR

    from avatars.files import write_atomically

    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "environment.exr"
        header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
        OpenEXR.File(header, {"RGB": np.ascontiguousarray(radiance, np.float32)}).write(str(copy))
        content = copy.read_bytes()
    write_atomically(path, content)
