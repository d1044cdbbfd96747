"""Avatars on disk: a folder NAME.avatar with avatar.json, weights.safetensors and preview.png.

avatar.json names the SHA-256 and size of the other files; they are checked before anything in them is used. A name
given later lies beside it in label.json: scenes pin avatar.json by digest, and a new name must not break them.
Importing this module does not import torch, so a server can list a library without it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from avatars.files import (
    check_seal,
    save_tensors,
    sha256_of,
    write_atomically,
    write_folder_atomically,
    write_seal,
)
from avatars.templates.opening import TemplateReference
from shared.edit_messages import EditNote
from shared.errors import BadAvatar, EffigyError
from shared.messages import AvatarSummary

if TYPE_CHECKING:
    from torch import Tensor

    from avatars.avatar import Avatar

FORMAT, VERSION = "effigy-avatar", 1
DESCRIPTION, WEIGHTS, PREVIEW = "avatar.json", "weights.safetensors", "preview.png"
LABEL, MAX_LABEL_BYTES = "label.json", 4096
MAX_DESCRIPTION_BYTES, MAX_WEIGHTS_BYTES, MAX_PREVIEW_BYTES = 16 << 20, 8 << 30, 64 << 20
UNFIT = (KeyError, TypeError, ValueError, IndexError, AttributeError, ArithmeticError, RuntimeError, MemoryError)
LIMITS = {WEIGHTS: MAX_WEIGHTS_BYTES, PREVIEW: MAX_PREVIEW_BYTES}


@dataclass(frozen=True)
class About:
    """What is said of an avatar beside its numbers. training: summary with held-out metrics; provenance: capture.

    edit: of an edited avatar, its parent, prompt, editor, seed and settings.
    """

    name: str
    licence: str = ""
    consent: str = ""
    training: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    edit: Mapping[str, Any] = field(default_factory=dict)


def save_avatar(folder: Path, avatar: Avatar, about: About, preview: NDArray[np.uint8]) -> str:
    """Write an avatar's folder in one step, replacing an avatar of that name, and return its digest.

    preview: [H, W, 4] uint8 sRGB straight alpha. The template's licence is written beside the capture's, since both
    bind what is done with the avatar. Raises BadAvatar when something else is in the way, EnvironmentFailed
    when the disk refuses.
    """
    from PIL import Image

    folder = Path(folder)
    if folder.exists() and not (folder / DESCRIPTION).is_file():
        raise BadAvatar(f"{folder} exists and is no avatar", do="Choose another name")
    rig, reference = avatar.rig(), avatar.template()
    licences = dict.fromkeys((*about.licence.split("; "), *reference.open().licence.split("; ")))
    licences.pop("", None)  # a copy of an avatar names its template's already
    document: dict[str, Any] = {
        "format": FORMAT,
        "version": VERSION,
        "name": about.name,
        "method": avatar.method,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "relightable": getattr(avatar, "captured_light", None) is not None,
        "template": reference.as_json(),
        "rig": {
            "joint_names": list(rig.joint_names),
            "parents": rig.parents.tolist(),
            "rest_joints": rig.rest_joints.tolist(),
            "expression_names": list(rig.expression_names),
        },
        "model": dict(avatar.description()),
        "training": dict(about.training),
        "licence": "; ".join(licences),
        "consent": about.consent,
        "provenance": dict(about.provenance),
    }
    if about.edit:
        document["edit"] = dict(about.edit)

    def fill(target: Path) -> None:
        save_tensors({name: value.contiguous() for name, value in avatar.tensors().items()}, target / WEIGHTS)
        Image.fromarray(preview, "RGBA" if preview.shape[2] == 4 else "RGB").save(target / PREVIEW)
        document["files"] = {
            name: {"sha256": sha256_of(target / name), "bytes": (target / name).stat().st_size} for name in LIMITS
        }
        (target / DESCRIPTION).write_text(json.dumps(document, indent=1), encoding="utf-8")
        write_seal(target / DESCRIPTION)

    write_folder_atomically(folder, fill)
    return avatar_digest(folder)


def avatar_digest(folder: Path) -> str:
    """SHA-256 of avatar.json, which itself holds the SHA-256 of the other files. Raises BadAvatar."""
    return hashlib.sha256(_description_bytes(Path(folder))).hexdigest()


def read_description(folder: Path) -> dict[str, Any]:
    """avatar.json, checked as far as it goes without opening the weights. Raises BadAvatar."""
    folder = Path(folder)
    try:
        document = json.loads(_description_bytes(folder))
    except (ValueError, RecursionError) as error:
        raise _damaged(folder, f"{DESCRIPTION} is no JSON") from error
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise BadAvatar(f"{folder} is no avatar", found=f"another format in {DESCRIPTION}", expected=FORMAT)
    if document.get("version") != VERSION:
        raise BadAvatar(
            f"avatar {folder.name} was written by another version of Effigy",
            found=f"format version {document.get('version')!r}",
            expected=f"version {VERSION}",
            do="Open it with the version of Effigy that made it",
        )
    for key, kind in (
        ("name", str),
        ("method", str),
        ("created", str),
        ("template", dict),
        ("rig", dict),
        ("model", dict),
        ("training", dict),
        ("licence", str),
        ("files", dict),
    ):
        if not isinstance(document.get(key), kind):
            raise _damaged(folder, f"{DESCRIPTION} lacks {key!r}")
    for name, limit in LIMITS.items():
        entry = document["files"].get(name)
        if not isinstance(entry, dict) or not isinstance(entry.get("sha256"), str):
            raise _damaged(folder, f"{DESCRIPTION} names no digest of {name}")
        path = folder / name
        if not path.is_file():
            raise _damaged(folder, f"{name} is missing")
        if path.stat().st_size != entry.get("bytes"):
            raise _damaged(folder, f"{name} has {path.stat().st_size} bytes instead of {entry.get('bytes')}")
        if path.stat().st_size > limit:
            raise BadAvatar(f"{name} of avatar {folder.name} is too large", expected=f"at most {limit} bytes")
    try:
        check_seal(folder / DESCRIPTION)
    except (ValueError, OSError) as error:
        raise _damaged(folder, str(error)) from error
    return document


def load_avatar(folder: Path, device: str = "cpu") -> Avatar:
    """Read an avatar. Raises BadAvatar for one that is missing, damaged, or made for another template or version."""
    folder = Path(folder)
    document = read_description(folder)
    _check_digest(folder, WEIGHTS, document)
    return loaded_parts(folder.name, document, weights_of(folder / WEIGHTS, folder.name), device)


def weights_of(path: Path, name: str) -> dict[str, Tensor]:
    """The tensors of a safetensors file of the avatar called `name`, on the CPU. Raises BadAvatar."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(str(path))
    except (SafetensorError, *UNFIT) as error:
        raise BadAvatar(
            f"avatar {name} is damaged",
            found=f"{path.name} cannot be read: {str(error)[:120]}",
            do="Copy it again from where it is intact, or train it again",
        ) from error


def loaded_parts(name: str, document: Mapping[str, Any], tensors: Mapping[str, Tensor], device: str) -> Avatar:
    """The avatar that a description and tensors make, whoever put them together. Raises BadAvatar."""
    import torch

    from avatars.methods import find_method

    method = find_method(document["method"])
    try:
        reference = TemplateReference.from_json(document["template"])
        with torch.no_grad():
            return method.load(reference, document["model"], tensors, device)
    except BadAvatar:
        raise
    except EffigyError as error:
        raise BadAvatar(
            f"avatar {name} does not fit: {error.what}", found=error.found, expected=error.expected, do=error.do
        ) from error
    except UNFIT as error:  # tensors and numbers that agree with their digests and not with each other
        reason = (str(error).splitlines() or [""])[0][:120] or type(error).__name__
        raise BadAvatar(f"avatar {name} holds parts that do not fit each other", found=reason) from error


def describe_avatar(folder: Path) -> AvatarSummary:
    """What a library shows of an avatar; cheap, and never raises: `problem` says why it cannot be used."""
    folder = Path(folder)
    avatar_id = folder.name.removesuffix(".avatar")
    try:
        document = read_description(folder)
        digest = avatar_digest(folder)
    except EffigyError as error:
        return AvatarSummary(avatar_id, avatar_id, "", "", "", "", problem=str(error))
    problem = ""
    try:
        reference = TemplateReference.from_json(document["template"])
        reference.open()
    except EffigyError as error:
        problem = str(error)
    metrics = document["training"].get("metrics", {})
    numbers = (
        {str(k): float(v) for k, v in metrics.items() if isinstance(v, int | float)}
        if isinstance(metrics, dict)
        else {}
    )
    return AvatarSummary(
        avatar_id=avatar_id,
        name=shown_name(folder, document),
        method=document["method"],
        digest=digest,
        template_id=str(document["template"].get("id", "")),
        created=document["created"],
        metrics=numbers,
        licence=document["licence"],
        problem=problem,
        relightable=document.get("relightable") is True,
        edit=edit_note(document),
    )


def edit_note(document: Mapping[str, Any]) -> EditNote | None:
    """What an edited version's avatar.json says of its parent and the words; None where it was not edited."""
    edit = document.get("edit")
    if not isinstance(edit, dict):
        return None
    parent, settings = edit.get("parent"), edit.get("settings")
    parent = parent if isinstance(parent, dict) else {}
    settings = settings if isinstance(settings, dict) else {}
    seed = edit.get("seed")
    return EditNote(
        str(parent.get("avatar_id") or "")[:80],
        str(parent.get("digest") or "")[:64],
        str(edit.get("prompt") or "")[:400],
        str(edit.get("editor") or "")[:80],
        str(settings.get("region") or "")[:80],
        seed if isinstance(seed, int) and 0 <= seed < 2**63 else 0,
        str(edit.get("made") or "")[:40],
    )


def rename_avatar(folder: Path, name: str) -> None:
    """Give an avatar another name to be shown by; its digest stays. Raises EnvironmentFailed."""
    write_atomically(Path(folder) / LABEL, json.dumps({"name": name}, ensure_ascii=False).encode())


def shown_name(folder: Path, document: Mapping[str, Any]) -> str:
    """The name an avatar was given last: label.json's where there is a readable one, else that of `document`."""
    path = Path(folder) / LABEL
    try:
        if path.stat().st_size <= MAX_LABEL_BYTES:
            name = json.loads(path.read_bytes())["name"]
            if isinstance(name, str) and name:
                return name
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        pass  # there is none, or it is damaged: the name it was made with is good
    return str(document["name"])


def load_preview(folder: Path) -> NDArray[np.uint8]:
    """The preview picture [H, W, 4] uint8 sRGB straight alpha. Raises BadAvatar."""
    from avatars.picture_files import open_picture

    folder = Path(folder)
    _check_digest(folder, PREVIEW, read_description(folder))
    with open_picture(folder / PREVIEW, f"{PREVIEW} of {folder.name}", BadAvatar) as image:
        return np.asarray(image.convert("RGBA"))


def _description_bytes(folder: Path) -> bytes:
    path = folder / DESCRIPTION
    try:
        if path.stat().st_size > MAX_DESCRIPTION_BYTES:
            raise _damaged(folder, f"{DESCRIPTION} is larger than {MAX_DESCRIPTION_BYTES} bytes")
        return path.read_bytes()
    except OSError as error:
        raise BadAvatar(
            f"there is no avatar in {folder}", found=f"no {DESCRIPTION}", do="Check the path or train the avatar"
        ) from error


def _check_digest(folder: Path, name: str, document: Mapping[str, Any]) -> None:
    try:
        found = sha256_of(folder / name)
    except OSError as error:
        raise _damaged(folder, f"{name} cannot be read: {error.strerror}") from error
    wanted = document["files"][name]["sha256"]
    if found != wanted:
        raise BadAvatar(
            f"{name} of avatar {folder.name} is not the file that was saved",
            found=f"sha256 {found[:12]}",
            expected=f"sha256 {wanted[:12]}",
            do="Copy the avatar again from where it is intact, or train it again",
        )


def _damaged(folder: Path, found: str) -> BadAvatar:
    return BadAvatar(
        f"avatar {folder.name} is damaged", found=found, do="Copy it again from where it is intact, or train it again"
    )


def iterations_of(document: Mapping[str, Any]) -> int:
    """How many steps made an avatar, from its avatar.json; an edited one: its parent's and those of its edit."""

    def count(value: Any) -> int:
        return int(value) if isinstance(value, int | float) else 0

    edit = document.get("edit")
    if isinstance(edit, dict):
        parent, settings = edit.get("parent"), edit.get("settings")
        before = count(parent.get("iterations")) if isinstance(parent, dict) else 0
        return before + count(settings.get("iterations") if isinstance(settings, dict) else 0)
    training = document["training"]
    metrics, origin = training.get("metrics"), document.get("provenance")
    trained = count(training.get("steps")) or count(metrics.get("images") if isinstance(metrics, dict) else 0)
    return trained or count(origin.get("iteration") if isinstance(origin, dict) else 0)
