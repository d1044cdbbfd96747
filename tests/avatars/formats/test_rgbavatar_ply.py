"""RGBAvatar's model.ply: layout, the network in its column, and files that do not say what they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from avatars.formats.rgbavatar_network import (
    RgbAvatarSettings,
    infer_inputs,
    linear_network,
    linear_part,
    pack_network,
    parameter_count,
    read_settings,
    settings_text,
    unpack_network,
)
from avatars.formats.rgbavatar_ply import read_rgbavatar_ply, write_rgbavatar_ply
from shared.errors import BadAvatar, BadConfig
from tests.avatars.formats.rgbavatar_files import config_text, network_numbers, random_fields, write_fields

FACES = 10032


@pytest.mark.parametrize(("blendshapes", "inputs"), [(5, 129), (20, 100), (50, 129)])
def test_a_file_is_read_and_written_back_bit_for_bit(tmp_path: Path, blendshapes: int, inputs: int) -> None:
    packed = network_numbers(inputs, blendshapes)
    fields = random_fields(len(packed) + 7, blendshapes, FACES, packed)
    path = write_fields(tmp_path / "model.ply", fields)
    file = read_rgbavatar_ply(path)
    assert file.blendshapes == blendshapes
    basis, component = blendshapes - 1, 2  # column 3k + c is component c of basis k
    np.testing.assert_array_equal(file.position_deltas[basis, :, component], fields[f"xyz_b_{3 * basis + component}"])
    np.testing.assert_array_equal(file.rotation_deltas[basis, :, 3], fields[f"rot_b_{4 * basis + 3}"])
    assert infer_inputs(file, path) == inputs
    network = unpack_network(file, RgbAvatarSettings(inputs=inputs, blendshapes=blendshapes), path)
    assert pack_network(network.layers, len(file)).tobytes() == fields["weight_module"].tobytes()
    np.testing.assert_array_equal(network.layers[0][0][1], packed[inputs : 2 * inputs])  # weights are row-major
    copy = tmp_path / "copy.ply"
    write_rgbavatar_ply(copy, file)
    assert copy.read_bytes() == path.read_bytes()


def test_parameters_are_counted_as_the_paper_does() -> None:
    assert parameter_count(129, 20) == 35732
    assert parameter_count(100, 20) == 128 * 100 + 128 + 16512 + 129 * 20


def test_files_that_do_not_say_how_many_blendshapes(tmp_path: Path) -> None:
    packed = network_numbers(129, 2)
    fields = random_fields(len(packed), 2, FACES, packed)
    for gone in ("xyz_b_5", "rot_b_7"):
        cut = {name: value for name, value in fields.items() if name != gone}
        with pytest.raises(BadAvatar, match=r"a\.ply does not say how many blendshapes it has .*expected 3 K, 4 K"):
            read_rgbavatar_ply(write_fields(tmp_path / "a.ply", cut))
    plain = {name: value for name, value in fields.items() if "_b_" not in name}
    with pytest.raises(BadAvatar, match=r"b\.ply does not say how many blendshapes"):
        read_rgbavatar_ply(write_fields(tmp_path / "b.ply", plain))


def test_a_network_whose_width_is_in_doubt_is_refused(tmp_path: Path) -> None:
    for packed in (np.zeros(0, np.float32), network_numbers(110, 5)):
        path = write_fields(tmp_path / "model.ply", random_fields(40000, 5, FACES, packed))
        with pytest.raises(BadAvatar, match=r"does not say how many numbers its network takes.*--config"):
            infer_inputs(read_rgbavatar_ply(path), path)


def test_a_config_of_another_file_is_refused(tmp_path: Path) -> None:
    packed = network_numbers(129, 5)
    path = write_fields(tmp_path / "model.ply", random_fields(len(packed) + 100, 5, FACES, packed))
    file = read_rgbavatar_ply(path)
    for wrong in (
        RgbAvatarSettings(inputs=129, blendshapes=20),
        RgbAvatarSettings(inputs=100, blendshapes=5),
        RgbAvatarSettings(inputs=140, blendshapes=5),
        RgbAvatarSettings(inputs=129, blendshapes=5, use_mlp_proj=False),
        RgbAvatarSettings(inputs=5, blendshapes=5, use_weight_proj=False),
    ):
        with pytest.raises(BadAvatar, match=r"model\.ply (does not fit its config|holds a network)"):
            unpack_network(file, wrong, path)


def test_networks_of_one_layer_or_none_are_our_network_exactly(tmp_path: Path) -> None:
    packed = network_numbers(129, 7, mlp=False)
    path = write_fields(tmp_path / "model.ply", random_fields(1200, 7, FACES, packed))
    network = unpack_network(
        read_rgbavatar_ply(path), RgbAvatarSettings(inputs=129, blendshapes=7, use_mlp_proj=False), path
    )
    theta = np.random.default_rng(3).normal(size=(11, 129)).astype(np.float32)
    weight, bias = packed[: 7 * 129].reshape(7, 129), packed[7 * 129 :]
    value = theta
    for index, (matrix, shift) in enumerate(network.layers):
        value = value @ matrix.T + shift
        value = np.maximum(value, 0) if index < 2 else value
    np.testing.assert_allclose(value, theta @ weight.T + bias, atol=1e-5)
    found = linear_part(network)
    assert found is not None
    np.testing.assert_array_equal(found[0], weight)
    np.testing.assert_array_equal(found[1], bias)
    assert linear_part(linear_network(weight + 1, bias)) is not None


def test_settings_are_read_and_written(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(config_text(100, 20, pose=False), encoding="utf-8")
    settings = read_settings(path)
    assert settings == RgbAvatarSettings(inputs=100, blendshapes=20, use_pose_weight=False)
    path.write_text(settings_text(settings), encoding="utf-8")
    assert read_settings(path) == settings


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("- 1", "is no RGBAvatar config"),
        ("model: 3", "no section 'model'"),
        ("model: {num_basis_in: yes}", "holds 'num_basis_in' in another form"),
        ("model: {num_basis_in: 0}", "sizes out of range"),
        ("template_type: FuHead\nmodel: {}", "head model that was never published"),
        ("model: [", "cannot be read as YAML"),
        ("model: !!python/object/apply:os.getcwd []", "cannot be read as YAML"),
    ],
)
def test_settings_of_another_kind_are_refused(tmp_path: Path, text: str, sentence: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(BadConfig, match=r"config\.yaml .*" + sentence):
        read_settings(path)
