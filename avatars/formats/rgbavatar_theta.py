"""RGBAvatar's driving vector and ours: which of its 129 numbers a network reads, and networks rewritten for them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from avatars.formats.rgbavatar_network import HIDDEN, Network, RgbAvatarSettings
from avatars.rgb_head.driving import DrivingField, DrivingLayout, DrivingRange
from shared.errors import BadAvatar

EXPRESSIONS = tuple(f"exp{number:03d}" for number in range(100))
LIDS = ("eyelid_left", "eyelid_right")
JOINTS = ("neck", "jaw", "left_eye", "right_eye")
SHAPE_FIELDS = (DrivingField("expressions", EXPRESSIONS),)
POSE_FIELDS = (
    *(DrivingField("rotation_6d", (name,), "y_up") for name in JOINTS),
    DrivingField("expressions", LIDS),
    DrivingField("translation", axes="y_up"),
)
EXPRESSION_COUNT, WHOLE = 100, 129
MODEL_FROM_FLAME = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])


def layout_of(settings: RgbAvatarSettings) -> tuple[DrivingLayout, int]:
    """The layout that RGBAvatar's settings describe, and how many of its numbers the file's network reads.

    The network reads the first `num_basis_in` of them; where that ends inside a rotation the layout is longer than the
    network is wide. Raises BadAvatar for more inputs than there are.
    """
    chosen = (SHAPE_FIELDS if settings.use_shape_weight else ()) + (POSE_FIELDS if settings.use_pose_weight else ())
    fields: list[DrivingField] = []
    left = settings.inputs
    for field in chosen:
        if left <= 0:
            break
        names = field.names[:left] if field.kind == "expressions" else field.names
        fields.append(DrivingField(field.kind, names, field.axes))
        left -= fields[-1].size()
    if left > 0:
        raise BadAvatar(
            "the config asks for more inputs than FLAME's driving vector has",
            found=f"num_basis_in {settings.inputs}",
            expected=f"at most {sum(field.size() for field in chosen)}",
        )
    return DrivingLayout(tuple(fields)), settings.inputs


def widened(network: Network, inputs: int) -> Network:
    """The same network reading `inputs` numbers, the added ones with weight zero."""
    (weight, bias), *others = network.layers
    extra = np.zeros((len(weight), inputs - weight.shape[1]), np.float32)
    return Network(((np.concatenate((weight, extra), 1), bias), *others))


def folded(
    weight: NDArray[np.float32], bias: NDArray[np.float32], layout: DrivingLayout, driving: DrivingRange
) -> tuple[NDArray[np.float32], NDArray[np.float32], RgbAvatarSettings]:
    """A first layer of ours rewritten to read RGBAvatar's numbers as they are, and the settings that describe them.

    Mean and sigma go into weights and bias, other orders and a translation in model axes into the columns. Raises
    BadAvatar for what RGBAvatar's vector does not hold.
    """
    table = _columns(layout)
    used = np.flatnonzero(table.any(0))
    if not len(used):
        raise BadAvatar("the avatar is driven by nothing, RGBAvatar's files need at least one number")
    with_shape = bool((used < EXPRESSION_COUNT).any())
    with_pose = bool((used >= EXPRESSION_COUNT).any())
    first = 0 if with_shape else EXPRESSION_COUNT
    inputs = int(used[-1]) + 1 - first
    spread = driving.sigma.detach().cpu().double().clamp_min(0.05).numpy()
    mean = driving.mean.detach().cpu().double().numpy()
    scaled = weight.astype(np.float64) / spread
    shifted = bias - scaled @ mean
    columns = (scaled @ table)[:, first : first + inputs]
    settings = RgbAvatarSettings(inputs=inputs, use_shape_weight=with_shape, use_pose_weight=with_pose)
    return columns.astype(np.float32), shifted.astype(np.float32), settings


def with_hidden(network: Network) -> Network:
    """The same network with RGBAvatar's 128 hidden units, the added ones without effect. Raises BadAvatar if wider."""
    if network.hidden > HIDDEN:
        raise BadAvatar(
            "the avatar's network is wider than RGBAvatar's",
            found=f"{network.hidden} hidden units",
            expected=f"at most {HIDDEN}",
            do="Train it with model.hidden 128",
        )
    extra = HIDDEN - network.hidden
    (w1, b1), (w2, b2), (w3, b3) = network.layers
    return Network(
        (
            (np.pad(w1, ((0, extra), (0, 0))), np.pad(b1, (0, extra))),
            (np.pad(w2, ((0, extra), (0, extra))), np.pad(b2, (0, extra))),
            (np.pad(w3, ((0, 0), (0, extra))), b3),
        )
    )


def _columns(layout: DrivingLayout) -> NDArray[np.float64]:
    """[size, 129]: each number of θ as a sum of RGBAvatar's."""
    whole: dict[tuple[str, str], int] = {}
    at = 0
    for field in SHAPE_FIELDS + POSE_FIELDS:
        for name in field.names or ("",):
            whole[field.kind, name] = at
            at += field.size() // max(len(field.names), 1)
    table = np.zeros((layout.size(), WHOLE))
    row = 0
    for field in layout.fields:
        width = field.size() // max(len(field.names), 1)
        for name in field.names or ("",):
            start = whole.get((field.kind, name))
            if start is None:
                raise BadAvatar(
                    f"the avatar is driven by {name!r}, which RGBAvatar's driving vector lacks",
                    do="Only heads on FLAME can be written as RGBAvatar files",
                )
            block = np.eye(width)
            if field.axes == "model" and field.kind == "translation":
                block = MODEL_FROM_FLAME
            elif field.axes == "model" and field.kind == "rotation_6d":
                raise BadAvatar(
                    "the avatar's network reads rotations in Blender's axes, RGBAvatar's in FLAME's",
                    do="Train it with model.theta: rgbavatar",
                )
            table[row : row + width, start : start + width] = block
            row += width
    return table
