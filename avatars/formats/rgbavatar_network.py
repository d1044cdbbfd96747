"""RGBAvatar's weight network: how many inputs the numbers in a model.ply are for, and its forms as our one network.

The PLY holds nothing but a run of numbers with zeros after it; which network they are is said by the config.yaml beside
it or, where that is lost, follows from where the zeros begin (method page 8).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from avatars.formats.rgbavatar_ply import RgbAvatarFile
from shared.errors import BadAvatar, BadConfig

Float = NDArray[np.float32]
HIDDEN = 128
KNOWN_INPUTS = (129, 100, 66)
MAX_CONFIG_BYTES = 1 << 20


@dataclass(frozen=True)
class RgbAvatarSettings:
    """What of RGBAvatar's config.yaml decides how a model.ply is read. inputs: num_basis_in."""

    inputs: int = 129
    blendshapes: int = 20
    tex_size: int = 256
    use_blend: bool = True
    use_weight_proj: bool = True
    use_mlp_proj: bool = True
    use_shape_weight: bool = True
    use_pose_weight: bool = True
    template_type: str = "Flame"


@dataclass(frozen=True, eq=False)
class Network:
    """ψ = W3 relu(W2 relu(W1 θ + b1) + b2) + b3: weights [out, in] and biases [out], float32."""

    layers: tuple[tuple[Float, Float], ...]

    def __post_init__(self) -> None:
        assert len(self.layers) == 3

    @property
    def inputs(self) -> int:
        """Length of θ."""
        return self.layers[0][0].shape[1]

    @property
    def hidden(self) -> int:
        """Width between the layers."""
        return len(self.layers[0][1])


def read_settings(path: Path) -> RgbAvatarSettings:
    """The model's part of an RGBAvatar config.yaml. Raises BadConfig naming the file and the key."""
    path = Path(path)
    try:
        if path.stat().st_size > MAX_CONFIG_BYTES:
            raise BadConfig(f"{path} is too large for a config file", expected=f"at most {MAX_CONFIG_BYTES} bytes")
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        raise BadConfig(f"{path} cannot be read as YAML", found=str(error).replace("\n", " ")[:200]) from error
    if not isinstance(document, Mapping):
        raise BadConfig(f"{path} is no RGBAvatar config", expected="sections dataset, model and train")
    default = RgbAvatarSettings()

    def get(section: str, key: str, kind: type, fallback: Any) -> Any:
        table = document if not section else document.get(section, {})
        value = table.get(key, fallback) if isinstance(table, Mapping) else fallback
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise BadConfig(f"{path} holds {key!r} in another form", found=repr(value)[:60], expected=kind.__name__)
        return value

    if not isinstance(document.get("model"), Mapping):
        raise BadConfig(f"{path} is no RGBAvatar config", found="no section 'model'")
    settings = RgbAvatarSettings(
        inputs=get("model", "num_basis_in", int, default.inputs),
        blendshapes=get("model", "num_basis_blend", int, default.blendshapes),
        tex_size=get("model", "tex_size", int, default.tex_size),
        use_blend=get("model", "use_blend", bool, True),
        use_weight_proj=get("model", "use_weight_proj", bool, True),
        use_mlp_proj=get("model", "use_mlp_proj", bool, True),
        use_shape_weight=get("dataset", "use_shape_weight", bool, True),
        use_pose_weight=get("dataset", "use_pose_weight", bool, True),
        template_type=get("", "template_type", str, default.template_type),
    )
    if not (1 <= settings.inputs <= 4096 and 16 <= settings.tex_size <= 4096):
        raise BadConfig(f"{path} holds sizes out of range", found=f"{settings.inputs} inputs, {settings.tex_size} px")
    if settings.template_type != "Flame":
        raise BadConfig(
            f"{path} is of an avatar on a head model that was never published",
            found=f"template_type {settings.template_type}",
            expected="Flame",
        )
    return settings


def settings_text(settings: RgbAvatarSettings) -> str:
    """A config.yaml with the keys RGBAvatar's own programs read beside a model.ply."""
    return yaml.safe_dump(
        {
            "data_dir": "data",
            "output_dir": "output",
            "template_type": settings.template_type,
            "dataset": {
                "pin_memory": True,
                "use_shape_weight": settings.use_shape_weight,
                "use_pose_weight": settings.use_pose_weight,
            },
            "model": {
                "tex_size": settings.tex_size,
                "num_basis_in": settings.inputs,
                "num_basis_blend": settings.blendshapes,
                "use_blend": settings.use_blend,
                "use_weight_proj": settings.use_weight_proj,
                "use_mlp_proj": settings.use_mlp_proj,
                "init_scaling": 0.0008,
                "init_opacity": 0.5,
            },
            "train": {"batch_size": 10},
        },
        sort_keys=False,
    )


def parameter_count(inputs: int, blendshapes: int, *, mlp: bool = True) -> int:
    """Numbers of the network: 128 in + 128 + 16,512 + 129 K, or (in + 1) K for a single layer."""
    if not mlp:
        return (inputs + 1) * blendshapes
    return HIDDEN * inputs + HIDDEN + HIDDEN * HIDDEN + HIDDEN + (HIDDEN + 1) * blendshapes


def infer_inputs(file: RgbAvatarFile, path: Path) -> int:
    """Length of θ from where the zeros begin; for a model.ply without its config. Raises BadAvatar when in doubt."""
    nonzero = np.flatnonzero(file.packed)
    used = int(nonzero[-1]) + 1 if len(nonzero) else 0
    for inputs in KNOWN_INPUTS:
        count = parameter_count(inputs, file.blendshapes)
        # The last numbers are the K biases of the output, which a trained network does not leave all at zero.
        if count - file.blendshapes < used <= count <= len(file):
            return inputs
    raise BadAvatar(
        f"{path} does not say how many numbers its network takes",
        found=f"{used} network parameters with K = {file.blendshapes}",
        expected=", ".join(f"{parameter_count(n, file.blendshapes)} for {n} inputs" for n in KNOWN_INPUTS),
        do="Give the config.yaml it was trained with (--config)",
    )


def unpack_network(file: RgbAvatarFile, settings: RgbAvatarSettings, path: Path) -> Network:
    """The network of a model.ply read with its settings. Raises BadAvatar where the two do not fit."""
    blendshapes, inputs = file.blendshapes, settings.inputs
    if not settings.use_weight_proj:
        if inputs != blendshapes:
            raise BadAvatar(
                f"{path} does not fit its config",
                found=f"K = {blendshapes}",
                expected=f"num_basis_in {inputs}, as it is driven without a network",
            )
        if file.packed.any():
            raise BadAvatar(f"{path} holds a network, its config says there is none", found="use_weight_proj: false")
        return linear_network(np.eye(blendshapes, dtype=np.float32), np.zeros(blendshapes, np.float32))
    if settings.blendshapes != blendshapes:
        raise BadAvatar(
            f"{path} does not fit its config",
            found=f"K = {blendshapes}",
            expected=f"num_basis_blend {settings.blendshapes}",
            do="Give the config.yaml it was trained with (--config)",
        )
    count = parameter_count(inputs, blendshapes, mlp=settings.use_mlp_proj)
    if count > len(file) or file.packed[count:].any() or not file.packed[max(count - blendshapes, 0) : count].any():
        nonzero = np.flatnonzero(file.packed)
        raise BadAvatar(
            f"{path} does not fit its config",
            found=f"{int(nonzero[-1]) + 1 if len(nonzero) else 0} network parameters in {len(file)} rows",
            expected=f"{count} for num_basis_in {inputs}",
            do="Give the config.yaml it was trained with (--config)",
        )
    widths = (inputs, HIDDEN, HIDDEN, blendshapes) if settings.use_mlp_proj else (inputs, blendshapes)
    layers, start = [], 0
    for before, after in pairwise(widths):
        weight = file.packed[start : start + before * after].reshape(after, before)
        start += before * after
        layers.append((weight, file.packed[start : start + after]))
        start += after
    return Network(tuple(layers)) if settings.use_mlp_proj else linear_network(*layers[0])


def linear_network(weight: Float, bias: Float) -> Network:
    """ψ = W θ + b as a network with hidden layers, exact: y = relu(y) - relu(-y), one of the two always zero."""
    count = len(bias)
    identity = np.eye(2 * count, dtype=np.float32)
    zeros = np.zeros(2 * count, np.float32)
    return Network(
        (
            (np.concatenate((weight, -weight)), np.concatenate((bias, -bias))),
            (identity, zeros),
            (identity[:count] - identity[count:], zeros[:count]),
        )
    )


def linear_part(network: Network) -> tuple[Float, Float] | None:
    """W [K, in] and b [K] where a network is one made by `linear_network`, else None."""
    (first, shift), _, third = network.layers
    count = len(third[1])
    if network.hidden != 2 * count:
        return None
    same = linear_network(first[:count], shift[:count]).layers
    if all(
        np.array_equal(a, b)
        for one, two in zip(same, network.layers, strict=True)
        for a, b in zip(one, two, strict=True)
    ):
        return first[:count], shift[:count]
    return None


def pack_network(layers: Sequence[tuple[Float, Float]], rows: int) -> Float:
    """The `weight_module` column [rows]: each layer's weight, row-major, then its bias; zeros after them."""
    numbers = np.concatenate([part.ravel() for layer in layers for part in layer])
    packed = np.zeros(rows, np.float32)
    packed[: len(numbers)] = numbers
    return packed
