"""Malicious files, made by code: what each must lead to. None may run anything, fill memory or leave its folder."""

from __future__ import annotations

import gzip
import io
import json
import os
import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from avatars.captures.images import read_premultiplied
from avatars.captures.opening import open_capture
from avatars.formats.ply import read_ply
from avatars.formats.spz import read_spz
from avatars.lighting.environment_files import read_environment
from avatars.templates.restricted_pickle import read_pickle
from avatars.text_edit.gates import read_weights
from avatars.training.config import read_settings
from backend.fuzzing import samples
from backend.fuzzing.runner import bounded_memory, write_files
from shared.camera_files import read_path
from shared.errors import BadCapture, EffigyError
from shared.mesh_asset import read_mesh
from shared.motions import read_smpl_motion
from shared.npz import read_npz

LITTLE_MEMORY = 256 << 20


class Runs:
    """What a pickle bomb is made of: loading it with pickle would make a folder."""

    def __init__(self, place: Path) -> None:
        self.place = str(place)

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (self.place,)


def npy(header: str, data: bytes = b"") -> bytes:
    text = header.encode("latin1") + b"\n"
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(text)) + text + data


def declared(shape: str, kind: str = "<f4", data: bytes = b"") -> bytes:
    return npy(f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}", data)


def archive(**entries: bytes) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in entries.items():
            file.writestr(f"{name}.npy", content)
    return packed.getvalue()


def claims_to_unpack_to(size: int) -> bytes:
    """An archive of one entry whose directory says that size; a real bomb says the same and takes longer to make."""
    content = bytearray(archive(a=b"\0" * 1000))
    struct.pack_into("<I", content, content.find(b"PK\1\2") + 24, size)
    return bytes(content)


def laughter(levels: int) -> str:
    """References to references, nine at each level."""
    lines = ["a0: &a0 [x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, levels + 1)]
    return "\n".join(lines)


def png(width: int, height: int) -> bytes:
    """A picture of that size whose pixels are all zero, in a few bytes."""

    def chunk(mark: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + mark + data + struct.pack(">I", zlib.crc32(mark + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")
    )


def _npz(path: Path) -> object:
    return read_npz(path.read_bytes(), path.name, BadCapture)


FILES: dict[str, tuple[str, Callable[[], bytes], Callable[[Path], object], str]] = {
    "npz of 100 TB": (
        "x.npz",
        lambda: archive(poses=declared("(160000000000, 156)")),
        read_smpl_motion,
        "header and length disagree",
    ),
    "npz whose shape wraps around 64 bits": (
        "x.npz",
        lambda: archive(poses=declared("(4294967296, 4294967296)")),
        read_smpl_motion,
        "header and length disagree",
    ),
    "npz that is empty and long": (
        "x.npz",
        lambda: archive(body_pose=declared("(1000000000000, 0)")),
        read_smpl_motion,
        "claims to be long",
    ),
    "npz whose rows are a byte and whose motion is a kilobyte each": (
        "x.npz",
        lambda: archive(body_pose=declared("(900000, 1)", "|u1", b"\0" * 900_000)),
        read_smpl_motion,
        "does not fit",
    ),
    "npz bomb": ("x.npz", lambda: claims_to_unpack_to(2**31 - 1), _npz, "too much"),
    "npz of thousands of arrays": ("x.npz", lambda: archive(**{f"a{i}": b"" for i in range(4100)}), _npz, "too many"),
    "npz with a pickle": ("x.npz", lambda: archive(a=declared("()", "|O", pickle.dumps(1))), _npz, "damaged"),
    "npz with a text of no characters": (
        "x.npz",
        lambda: archive(names=declared("(1,)", "<U1", b"\xff\xff\xff\x7f")),
        _npz,
        "no character",
    ),
    "painted weights bomb": (
        "x.npz",
        lambda: claims_to_unpack_to(2**31 - 1),
        read_weights,
        "too much",
    ),
    "png of 10 gigapixels": (
        "x.png",
        lambda: png(100_000, 100_000),
        lambda path: read_premultiplied(path, (100_000, 100_000)),
        "cannot be read",
    ),
    "light of 10 gigapixels": ("x.png", lambda: png(100_000, 100_000), read_environment, "cannot be read|impossible"),
    "hdr of a terapixel": (
        "x.hdr",
        lambda: b"#?RADIANCE\n\n-Y 1000000 +X 1000000\n\2\2\0\0",
        read_environment,
        "impossible size",
    ),
    "ply of 100 TB": (
        "x.ply",
        lambda: b"ply\nformat binary_little_endian 1.0\nelement vertex 99999999999999\nproperty float x\nend_header\n",
        read_ply,
        "does not hold what its header says",
    ),
    "spz bomb": (
        "x.spz",
        lambda: gzip.compress(struct.pack("<IIIBBBB", 0x5053474E, 3, 4_000_000_000, 3, 12, 0, 0)),
        read_spz,
        "does not hold what its header says",
    ),
    "yaml that laughs": (
        "x.yaml",
        lambda: laughter(8).encode(),
        read_settings,
        "nested deeper|too often",
    ),
    "yaml nested without end": ("x.yaml", lambda: b"a: " + b"[" * 100_000, read_settings, "cannot be read"),
    "yaml that runs": ("x.yaml", lambda: b"a: !!python/object/apply:os.getcwd []\n", read_settings, "cannot be read"),
    "camera path nested without end": (
        "x.json",
        lambda: b"[" * 100_000,
        lambda path: read_path(path.read_bytes(), "x.json"),
        "holds no camera path",
    ),
    "camera path of infinite pictures": (
        "x.json",
        lambda: b'{"w2c": [1,0,0,0,0,1,0,0,0,0,1,0,0,0,0,1], "fovx": 40, "width": 1e999, "height": 1e999}',
        lambda path: read_path(path.read_bytes(), "x.json"),
        "holds no camera path",
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_a_malicious_file_is_refused(name: str, tmp_path: Path) -> None:
    file, make, read, message = FILES[name]
    path = tmp_path / file
    path.write_bytes(make())
    with bounded_memory(LITTLE_MEMORY), pytest.raises(EffigyError, match=message):
        read(path)


@pytest.mark.parametrize("protocol", range(6))
def test_a_pickle_runs_nothing(protocol: int, tmp_path: Path) -> None:
    (tmp_path / "x.pkl").write_bytes(pickle.dumps({"v_template": Runs(tmp_path / "made")}, protocol))
    with pytest.raises(EffigyError):
        read_pickle(tmp_path / "x.pkl", error_class=BadCapture)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    "name", ["../outside.png", "/etc/hostname", "images/../../outside.png", "/dev/zero", "images/CON", "nul.png"]
)
def test_a_capture_does_not_reach_outside_its_folder(name: str, tmp_path: Path) -> None:
    files = dict(samples.effigy_capture()[0])
    document = json.loads(files["capture.json"])
    document["images"][0]["file"] = name
    write_files(tmp_path / "inside", {**files, "capture.json": json.dumps(document).encode()})
    (tmp_path / "outside.png").write_bytes(samples.picture("PNG"))
    with pytest.raises(BadCapture, match="outside its folder"):
        open_capture(tmp_path / "inside")


def test_a_link_out_of_a_capture_is_refused(tmp_path: Path) -> None:
    write_files(tmp_path / "inside", samples.effigy_capture()[0])
    (tmp_path / "outside.png").write_bytes(samples.picture("PNG"))
    (tmp_path / "inside" / "images" / "0.png").unlink()
    (tmp_path / "inside" / "images" / "0.png").symlink_to(tmp_path / "outside.png")
    with pytest.raises(BadCapture, match="outside its folder"):
        open_capture(tmp_path / "inside")


@pytest.mark.parametrize("name", ["../colour.png", "/etc/passwd", "sub/colour.png"])
def test_a_mesh_does_not_name_textures_elsewhere(name: str, tmp_path: Path) -> None:
    files = dict(samples.mesh_folder()[0])
    document = json.loads(files["mesh.json"])
    document["textures"] = {"colour": name}
    write_files(tmp_path, {**files, "mesh.json": json.dumps(document).encode()})
    with pytest.raises(EffigyError, match="outside the folder"):
        read_mesh(tmp_path)


def test_nan_and_infinity_are_no_motion(tmp_path: Path) -> None:
    for bad in (np.nan, np.inf, 1e30):
        poses = np.full((3, 156), bad)
        (tmp_path / "x.npz").write_bytes(samples.npz(poses=poses, trans=np.zeros((3, 3))))
        with pytest.raises(BadCapture, match="not finite"):
            read_smpl_motion(tmp_path / "x.npz")


def test_a_play_list_is_no_video(tmp_path: Path) -> None:
    """ffmpeg would open what it names, here and elsewhere."""
    from avatars.captures.video_pictures import VideoPictures

    pytest.importorskip("imageio_ffmpeg")
    (tmp_path / "hidden.png").write_bytes(samples.picture("PNG", "RGB"))
    listed = f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{tmp_path}/hidden.png\n#EXT-X-ENDLIST\n"
    lines = f"ffconcat version 1.0\nfile {tmp_path}/hidden.png\nduration 1\n"
    for text in (listed, lines):
        (tmp_path / "x.mp4").write_text(text)
        with pytest.raises(BadCapture, match="no video that ffmpeg can read"):
            VideoPictures(tmp_path / "x.mp4", "rgb24")


def test_a_picture_that_is_a_program_is_not_opened(tmp_path: Path) -> None:
    """Pillow hands EPS to Ghostscript, whatever the file is called."""
    (tmp_path / "x.png").write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 16 8\n%%EndComments\n(made) (w) file closefile\n%%EOF\n"
    )
    with pytest.raises(EffigyError, match="cannot be read"):
        read_premultiplied(tmp_path / "x.png", (16, 8))
    with pytest.raises(EffigyError, match="cannot be read"):
        read_environment(tmp_path / "x.png")
