"""PLY: round trips to the bit, and one sentence for everything that is not such a file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avatars.formats.ply import TYPES, columns, float_table, numbered, ply_properties, read_ply, write_ply
from shared.errors import BadAvatar


def test_every_scalar_type_comes_back_bit_for_bit(tmp_path: Path) -> None:
    kinds = sorted(set(TYPES.values()))
    table = np.zeros(7, [(f"p{index}", kind) for index, kind in enumerate(kinds)])
    generator = np.random.default_rng(0)
    for name in table.dtype.names:
        table[name] = np.frombuffer(generator.bytes(7 * table.dtype[name].itemsize), table.dtype[name])
    path = tmp_path / "all.ply"
    write_ply(path, table, ["made by a test"])
    again = read_ply(path)
    assert again.dtype == table.dtype
    assert again.tobytes() == table.tobytes()
    assert ply_properties(path) == table.dtype.names
    assert path.read_bytes().startswith(
        b"ply\nformat binary_little_endian 1.0\ncomment made by a test\nelement vertex 7\n"
    )


def test_columns_keep_bits_and_name_what_is_wrong(tmp_path: Path) -> None:
    values = np.array([[-0.0, 1e-40], [3.4e38, -9999.0]], np.float32)
    table = float_table([(numbered("a", 2), values), (("b",), values[:, :1])])
    path = tmp_path / "x.ply"
    assert columns(table, ("a_0", "a_1"), path).tobytes() == values.tobytes()
    with pytest.raises(BadAvatar, match=r"x\.ply lacks the property 'a_2'"):
        columns(table, numbered("a", 3), path)
    table["a_1"][0] = np.nan
    with pytest.raises(BadAvatar, match=r"x\.ply holds values of 'a_1' that are not finite"):
        columns(table, numbered("a", 2), path)
    with pytest.raises(BadAvatar, match="in another type"):
        columns(np.zeros(1, [("face_id", "<i4")]), ("face_id",), path)


HEADER = b"ply\nformat binary_little_endian 1.0\nelement vertex 2\nproperty float x\nproperty uchar y\nend_header\n"


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "is no PLY file"),
        (b"solid x\n", "is no PLY file"),
        (b"ply\nformat binary_little_endian 1.0\nelement vertex 1\n", "cut off in its header"),
        (HEADER + b"\0" * 9, "does not hold what its header says .*found 9 bytes.*expected 2 vertices of 5"),
        (HEADER + b"\0" * 11, "does not hold what its header says"),
        (
            HEADER.replace(b"vertex 2", b"vertex 99999999999999999999") + b"\0" * 10,
            "does not hold what its header says",
        ),
        (HEADER.replace(b"vertex 2", b"vertex -2"), "more than one list of points"),
        (HEADER.replace(b"binary_little_endian", b"ascii"), "not a binary little-endian PLY .*found ascii"),
        (HEADER.replace(b"binary_little_endian", b"binary_big_endian"), "not a binary little-endian PLY"),
        (HEADER.replace(b"end_header", b"element face 1\nend_header"), "more than one list of points"),
        (HEADER.replace(b"uchar y", b"list uchar int y"), "header line Effigy does not read"),
        (HEADER.replace(b"uchar y", b"uchar x"), "header line Effigy does not read"),
        (HEADER.replace(b"uchar y", b"colour y"), "header line Effigy does not read"),
        (b"ply\nformat binary_little_endian 1.0\nend_header\n", "describes no vertices"),
        (HEADER.replace(b"property float x", b"property float \xff"), "no plain text"),
    ],
)
def test_anything_else_is_refused_in_one_sentence(tmp_path: Path, content: bytes, sentence: str) -> None:
    path = tmp_path / "bad.ply"
    path.write_bytes(content)
    with pytest.raises(BadAvatar, match=r"bad\.ply .*" + sentence):
        read_ply(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    for read in (read_ply, ply_properties):
        with pytest.raises(BadAvatar, match=r"gone\.ply cannot be read .*No such file"):
            read(tmp_path / "gone.ply")


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=200), st.integers(0, len(HEADER)))
def test_no_bytes_do_more_than_raise_our_error(tmp_path_factory: pytest.TempPathFactory, noise: bytes, at: int) -> None:
    path = tmp_path_factory.getbasetemp() / "noise.ply"
    path.write_bytes(HEADER[:at] + noise + HEADER[at:] + b"\0" * 10)
    said = "noise.ply"
    try:
        read_ply(path)
    except BadAvatar as error:
        said = str(error)
    assert "noise.ply" in said
