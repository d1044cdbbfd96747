"""Edit an avatar: from texts to a checked configuration, and from that to a new version of the avatar."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from avatars.avatar_folder import avatar_digest, read_description
from avatars.text_edit.config import check_prompted
from avatars.training.config import EDIT, TrainConfig, load_config
from shared.errors import BadAvatar, BadConfig, nearest

if TYPE_CHECKING:
    from avatars.captures.capture import Capture
    from avatars.training.loop import Run
    from avatars.training.progress import Progress, TrainResult

SHORT = {
    "prompt": "edit.prompt",
    "editor": "edit.editor",
    "strength": "edit.settings.strength",
    "text_guidance": "edit.settings.text_guidance",
    "image_guidance": "edit.settings.image_guidance",
    "region": "edit.settings.region",
    "model": "edit.settings.model",
    "wabe": "edit.wabe",
    "adversarial": "edit.adversarial",
    "iterations": "schedule.images",
}
"""Names a user says without a group. `seed` is both of the run and of the editor."""
TEXTS = ("prompt", "editor", "region", "model", "wabe")
"""Of these the whole text counts, whatever it would be as YAML."""
METHODS = ("rgb_head", "relit_head", "gaussian_head", "mlp_body", "relit_body", "surface_body")
WORDS = (*(SHORT[name] for name in TEXTS), "edit.gate")
"""The same settings by their whole names: YAML would read off as false."""
WHOLE = ("size_px", "description")
"""Settings of the run outside any group."""
PAINTED = "painted_weights.npy"
HELD_OUT = 8


def edit_config(values: Mapping[str, str], preset: str = "") -> TrainConfig:
    """The configuration of an edit from texts: SHORT names, seed, preset, and dotted settings. Raises BadConfig.

    preset: "" takes the one for this machine.

    >>> edit_config({"prompt": "golden hair", "strength": "0.5"}).edit.settings.strength
    0.5
    """
    overrides: dict[str, str] = {}
    preset = values.get("preset", preset) or usual_preset()
    for name, text in values.items():
        if name == "preset":
            continue
        if name == "seed":
            overrides |= {"seed": text, "edit.settings.seed": text}
        elif name in SHORT:
            overrides[SHORT[name]] = quoted(text) if name in TEXTS else text
        elif name in WORDS:
            overrides[name] = quoted(text.strip("'\""))
        elif "." in name or name in WHOLE:
            overrides[name] = text
        else:
            known = (*SHORT, "seed", "preset")
            raise BadConfig(f"an edit has no setting {name!r}{nearest(name, known)}", expected=", ".join(known))
    config = load_config(preset, overrides)
    if config.method != EDIT:
        raise BadConfig(f"preset {preset!r} edits no avatar", found=config.method, expected="edit_cpu or edit_cuda")
    return config


def usual_preset() -> str:
    """The preset for this machine: for its GPU where it has one."""
    import torch

    return "edit_cuda" if torch.cuda.is_available() else "edit_cpu"


def quoted(text: str) -> str:
    """A text that YAML reads back as itself."""
    return "'" + text.replace("'", "''").replace("\n", " ") + "'"


def regions_of(avatar_folder: Path) -> tuple[str, ...]:
    """Names of the regions an avatar can be edited in. Raises BadAvatar. Loads no torch."""
    from avatars.text_edit.editors.vocabulary import REGION_NAMES

    check_editable(avatar_folder)
    return tuple(name for name in REGION_NAMES if name != "everything")


def check_editable(avatar_folder: Path) -> None:
    """Refuse a folder that is no avatar, or one of a method that cannot be edited. Raises BadAvatar."""
    method = read_description(avatar_folder)["method"]
    if method not in METHODS:
        raise BadAvatar(f"avatars of method {method!r} cannot be edited", expected=", ".join(METHODS))


def check_edit(
    config: TrainConfig, avatar_folder: Path, capture: str, weights: NDArray[np.float32] | None = None
) -> None:
    """What can be known before anything is loaded onto a device. Raises BadConfig, BadAvatar, BadCapture.

    capture: "" for the avatar alone. weights: [V] over the vertices of the avatar's proxy mesh.
    """
    from avatars.text_edit.gates import region_names

    check_editable(avatar_folder)
    check_prompted(config.edit)
    region_names(config.edit.settings.region)
    if weights is not None and (weights.ndim != 1 or not np.isfinite(weights).all() or not (weights > 0).any()):
        raise BadConfig(
            "the painted weights are empty or no numbers", found=str(list(weights.shape)), do="Paint the weight group"
        )
    if config.edit.weights_file and not Path(config.edit.weights_file).is_file():
        raise BadConfig(f"there is no file {config.edit.weights_file}", expected=".npy or .npz of painted weights")
    if capture:
        from avatars.captures.opening import open_capture

        check_fits(avatar_folder, open_capture(capture))
    from avatars.text_edit.editors import check_prompt

    check_prompt(config.edit.editor, config.edit.prompt)


def check_fits(avatar_folder: Path, capture: Capture) -> None:
    """Refuse a capture whose joints or expressions are not the avatar's. Raises BadCapture."""
    from shared.errors import BadCapture

    rig = read_description(avatar_folder)["rig"]
    for what, ours, theirs in (
        ("joints", rig["joint_names"], capture.joint_names),
        ("expressions", rig["expression_names"], capture.expression_names),
    ):
        if list(ours) != list(theirs):
            raise BadCapture(
                f"the {what} of capture {capture.name!r} are not the avatar's",
                found=f"{len(theirs)} names",
                expected=f"{len(ours)} names",
                do="Give the capture it was trained from, or none",
            )


def edit(
    config: TrainConfig,
    avatar_folder: Path,
    capture: str,
    folder: Path,
    *,
    name: str,
    device: str,
    weights: NDArray[np.float32] | None = None,
    on_event: Callable[[Progress], None] = lambda told: None,
    wanted: Callable[[], str] = lambda: "",
    most_batch: int = 0,
) -> TrainResult:
    """Edit an avatar and leave NAME.avatar, report/ and checkpoints/ in `folder`; goes on from its checkpoints.

    capture: its views are edited; "" makes views of the avatar alone. weights: [V] over the vertices of the avatar's
    proxy mesh, how much each may change. wanted: asked before each step, 'pause' or 'cancel' ends it with a checkpoint.
    on_event: gets previews of a view before, as it was edited, and now. most_batch: as in avatars.training.loop.train.
    Raises what `check_edit` does, and EnvironmentFailed.
    """
    from avatars.training.loop import train

    avatar_folder, folder = Path(avatar_folder), Path(folder)
    check_edit(config, avatar_folder, capture, weights)
    config = with_painted(config, weights, folder)
    config, views = prepared(config, avatar_folder, capture, device, on_event)
    return train(
        config, views, folder, name=name, device=device, on_event=on_event, wanted=wanted, most_batch=most_batch
    )


def with_painted(config: TrainConfig, weights: NDArray[np.float32] | None, folder: Path) -> TrainConfig:
    """The same with painted weights [V], which are kept in the run's folder; as it is where nothing was painted."""
    if weights is None:
        return config
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / PAINTED, np.asarray(weights, np.float32))
    return dataclasses.replace(config, edit=dataclasses.replace(config.edit, weights_file=str(folder / PAINTED)))


def prepared(
    config: TrainConfig, avatar_folder: Path, capture: str, device: str, on_event: Callable[[Progress], None]
) -> tuple[TrainConfig, Capture]:
    """The configuration with the avatar in it, and the views that will be edited."""
    from avatars.captures.opening import open_capture
    from avatars.text_edit.around import completed
    from avatars.text_edit.generated import chosen_views, views_of

    digest = avatar_digest(avatar_folder)
    plan = dataclasses.replace(config.edit, avatar=str(avatar_folder), parent=digest, capture=capture)
    config = dataclasses.replace(config, edit=plan)
    from avatars.avatar_folder import load_avatar
    from avatars.training.progress import Progress

    if capture:
        most = min(plan.around_views, plan.max_edit_views // 4)
        views = chosen_views(open_capture(capture), plan.max_edit_views - most, HELD_OUT)
        return config, completed(load_avatar(avatar_folder, device), views, most, config.size_px, device)
    on_event(Progress(0, config.schedule.images, message="Looking at the avatar from all sides"))
    document = read_description(avatar_folder)
    views = views_of(
        load_avatar(avatar_folder, device),
        str(document["name"]),
        instants=plan.instants,
        orbit_cameras=plan.orbit_cameras,
        most=plan.max_edit_views,
        size_px=config.size_px,
        seed=config.seed,
        device=device,
        provenance=dict(document.get("provenance", {})),
        licence=str(document["licence"]),
    )
    return config, views


def run_of(
    config: TrainConfig,
    avatar_folder: Path,
    capture: str,
    folder: Path,
    device: str,
    on_event: Callable[[Progress], None],
) -> Run:
    """An edit that has not begun, to be stepped by hand. Raises what `edit` does."""
    from avatars.training.loop import Run

    check_edit(config, avatar_folder, capture)
    config, views = prepared(config, avatar_folder, capture, device, on_event)
    return Run(config, views, folder, device, on_event)
