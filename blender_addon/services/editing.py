"""What the Edit part asks for, read from the scene, and changing which version of an avatar an armature shows."""

from __future__ import annotations

import uuid
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._shared import edit_messages, errors, messages
from ..logic.versions import version_name
from .rig_info import proxy_of, rig_from_json, rig_to_json
from .rig_proxy import COLOUR_ATTRIBUTE


def edit_request(edit: Any, rig_object: Any) -> edit_messages.StartEdit:
    """The edit of one avatar as the panel describes it. Raises BadConfig, NotFound."""
    own = rig_object.data.effigy
    words = edit.prompt.strip()
    if not words:
        raise errors.BadConfig("The edit has no words", do="Say what is to change, or choose a look")
    region, weights = "", np.zeros(0, np.float32)
    if edit.where == "REGION":
        region = edit.region_name.strip()
        if not region:
            raise errors.BadConfig("No region was chosen", do="Choose one, or Everywhere")
    elif edit.where == "PAINTED":
        weights = painted_weights(rig_object, edit.group)
    overrides = {"wabe": edit.wabe, "adversarial": "true" if edit.adversarial else "false"}
    if edit.iterations:
        overrides["iterations"] = str(edit.iterations)
    return edit_messages.StartEdit(
        uuid.uuid4().hex,
        edit.name.strip() or version_name(own.avatar_name or own.avatar_id, words),
        own.avatar_id,
        own.digest,
        words,
        edit.editor,
        edit.capture.strip(),
        region,
        edit.strength,
        edit.text_guidance,
        edit.image_guidance,
        edit.seed,
        weights,
        overrides,
        edit.gpus,
    )


def painted_weights(rig_object: Any, group_name: str) -> NDArray[np.float32]:
    """Weights [V] in 0..1 of a vertex group of the avatar's proxy, in the order of its vertices.

    Raises NotFound where proxy or group are not there, BadConfig where nothing is painted or the mesh was edited.
    """
    proxy = proxy_of(rig_object)
    if proxy is None:
        raise errors.NotFound(f"The proxy mesh of {rig_object.name!r} was deleted", do="Add the avatar again")
    if not group_name:
        raise errors.BadConfig(
            "No vertex group was chosen", do="Choose one of the proxy mesh, or make one and paint it"
        )
    group = proxy.vertex_groups.get(group_name)
    if group is None:
        raise errors.NotFound(f"{proxy.name} has no vertex group {group_name!r}", do="Choose another")
    weights = np.zeros(len(proxy.data.vertices), np.float32)
    for vertex in proxy.data.vertices:
        for entry in vertex.groups:
            if entry.group == group.index:
                weights[vertex.index] = entry.weight
    if not weights.any():
        raise errors.BadConfig(f"Nothing is painted in {group_name!r}", do="Paint it in Weight Paint mode")
    return weights.clip(0.0, 1.0)


def show_version(rig_object: Any, detail: messages.AvatarDetail) -> None:
    """Let an armature drive another version of its avatar; bones, keys and shape keys stay as they are.

    The proxy takes the version's colours. Raises BadAvatar for an avatar of another rig, NotAllowed for linked data.
    """
    armature = rig_object.data
    if armature.library is not None:
        raise errors.NotAllowed(
            f"{rig_object.name} is linked from {armature.library.name}", do="Change its version in that file"
        )
    ours, theirs = rig_from_json(armature.effigy.rig), rig_from_json(rig_to_json(detail.rig, detail.rest_pose))
    same = (ours.joint_names, ours.expression_names) == (theirs.joint_names, theirs.expression_names)
    if not same or not np.allclose(ours.rest_joints, theirs.rest_joints, atol=1e-4):
        raise errors.BadAvatar(
            f"{detail.summary.name} has another skeleton than {rig_object.name}", do="Add it to the scene as its own"
        )
    own = armature.effigy
    own.avatar_id, own.digest = detail.summary.avatar_id, detail.summary.digest
    own.avatar_name = detail.summary.name or detail.summary.avatar_id
    own.relightable = detail.summary.relightable
    proxy = proxy_of(rig_object)
    colours = proxy.data.color_attributes.get(COLOUR_ATTRIBUTE) if proxy is not None else None
    if colours is not None and proxy.data.library is None and len(colours.data) == len(detail.proxy.colour):
        rgba = np.ones((len(detail.proxy.colour), 4), np.float32)
        rgba[:, :3] = detail.proxy.colour
        colours.data.foreach_set("color", rgba.reshape(-1))
        proxy.data.update()
