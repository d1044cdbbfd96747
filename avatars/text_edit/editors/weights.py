"""Finding the weights of diffusion editors on this machine: a folder, or a filled hub cache. No network."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from avatars.text_edit.config import EditorSettings
from shared.errors import BadConfig, EnvironmentFailed

MODEL_VARIABLE = "EFFIGY_EDITOR_MODEL"
INDEX = "model_index.json"
MAX_INDEX_BYTES, MAX_CARD_BYTES = 1 << 20, 1 << 20
INSTALL = 'Install it with: pip install "effigy[edit]"'


UNKNOWN_LICENCE = "see the model's card"
"""What is said of weights that bring no card."""


@dataclass(frozen=True)
class Usual:
    """What a kind of model is told where the user says nothing, as its makers use it.

    image_guidance: 0 for a model that has none. size_px: longest side of the pictures it was trained on.
    """

    text_guidance: float
    steps: int
    size_px: int
    image_guidance: float = 0.0


@dataclass(frozen=True)
class Model:
    """A kind of diffusion editor.

    hub: names tried in the cache, in order. classes: diffusers' names of its pipelines.
    """

    title: str
    hub: tuple[str, ...]
    classes: tuple[str, ...]
    usual: Usual


MODELS: Mapping[str, Model] = {
    "ip2p": Model(
        "InstructPix2Pix",
        ("timbrooks/instruct-pix2pix",),
        ("StableDiffusionInstructPix2PixPipeline",),
        Usual(7.5, 20, 512, image_guidance=1.5),
    ),
    "flux_kontext": Model(
        "FLUX.1 Kontext",
        ("black-forest-labs/FLUX.1-Kontext-dev",),
        ("FluxKontextPipeline",),
        Usual(3.5, 28, 1024),
    ),
    "qwen_edit": Model(
        "Qwen-Image-Edit",
        ("Qwen/Qwen-Image-Edit-2511", "Qwen/Qwen-Image-Edit-2509", "Qwen/Qwen-Image-Edit"),
        ("QwenImageEditPlusPipeline", "QwenImageEditPipeline"),
        Usual(4.0, 50, 1024),
    ),
    "sdxl": Model(
        "SDXL InstructPix2Pix, CosXL Edit",
        ("diffusers/sdxl-instructpix2pix-768",),
        ("StableDiffusionXLInstructPix2PixPipeline",),
        Usual(3.0, 30, 768, image_guidance=1.5),
    ),
}


def settled(editor: str, settings: EditorSettings) -> EditorSettings:
    """The settings with an editor's usual value wherever they say 0."""
    usual = MODELS[editor].usual
    return replace(
        settings,
        text_guidance=settings.text_guidance or usual.text_guidance,
        image_guidance=settings.image_guidance or usual.image_guidance,
        steps=settings.steps or usual.steps,
        size_px=settings.size_px or usual.size_px,
    )


@dataclass(frozen=True)
class Found:
    """Weights on this machine. kind: diffusers' class of the pipeline; licence: what its card says."""

    folder: Path
    kind: str
    licence: str

    @property
    def name(self) -> str:
        """The model's name on the hub, or that of its folder."""
        held = re.fullmatch(r"models--([\w.-]+?)--([\w.-]+)", self.folder.parent.parent.name)
        return "/".join(held.groups()) if held and self.folder.parent.name == "snapshots" else self.folder.name


def hub_cache() -> Path:
    """Where the hub's libraries keep what they have downloaded (HF_HUB_CACHE, HF_HOME, else the home folder)."""
    own = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE")
    home = Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface")
    return Path(own) if own else home / "hub"


def cached(name: str, holds: str = INDEX) -> Path | None:
    """The snapshot of `owner/model` in the hub's cache that has the file `holds`, None where there is none."""
    base = hub_cache() / f"models--{name.replace('/', '--')}"
    main = base / "refs" / "main"
    try:
        revision = main.read_text(encoding="utf-8").strip()
    except OSError:
        return None
    folder = base / "snapshots" / revision
    return folder if re.fullmatch(r"[0-9a-f]{6,64}", revision) and (folder / holds).exists() else None


def find_weights(editor: str, model: str = "") -> Found:
    """The weights for an editor of MODELS. model: a folder, or a name in the hub's cache; "" looks where it may.

    Looked for in turn: `model`, the variable EFFIGY_EDITOR_MODEL (if it is of this kind), the hub's cache. Raises
    BadConfig for a folder that is incomplete or of another kind, EnvironmentFailed where nothing is found.
    """
    known = MODELS[editor]
    asked = model or os.environ.get(MODEL_VARIABLE, "")
    if asked:
        folder = Path(asked).expanduser()
        if not folder.exists() and re.fullmatch(r"[\w.-]+/[\w.-]+", asked):
            snapshot = cached(asked)
            if snapshot is None:
                raise EnvironmentFailed(
                    f"the model {asked} is not in the hub's cache",
                    found=str(hub_cache()),
                    do="Download it yourself (hf download NAME) or give its folder: nothing is downloaded unasked",
                )
            folder = snapshot
        kind = checked_kind(folder)
        if kind in known.classes:
            return Found(folder, kind, card_licence(folder) or UNKNOWN_LICENCE)
        if model:
            other = next((name for name, one in MODELS.items() if kind in one.classes), "")
            raise BadConfig(
                f"{folder} holds another kind of model",
                found=kind,
                expected=" or ".join(known.classes),
                do=f"Choose the editor {other}" if other else "",
            )
    for name in known.hub:
        snapshot = cached(name)
        if snapshot is not None:
            kind = checked_kind(snapshot)
            if kind in known.classes:
                return Found(snapshot, kind, card_licence(snapshot) or UNKNOWN_LICENCE)
    raise EnvironmentFailed(
        f"no weights of {known.title} are on this machine",
        expected=f"{known.hub[0]} in {hub_cache()}, or a folder named by --set edit.settings.model or {MODEL_VARIABLE}",
        do=f"Download them yourself (hf download {known.hub[0]}) after reading the licence; built_in needs none",
    )


def checked_kind(folder: Path) -> str:
    """Diffusers' class of the pipeline in a folder all of whose parts are there. Raises BadConfig naming what lacks."""
    parts = read_index(folder)
    kind = str(parts["_class_name"])
    needed = [
        name
        for name, value in parts.items()
        if not name.startswith("_") and isinstance(value, list) and any(value[:1]) and name not in OPTIONAL
    ]
    strange = [name for name in needed if not re.fullmatch(r"[\w-]{1,80}", name)]
    if strange:
        raise BadConfig(f"{INDEX} of {folder} names a part that is no folder's name", found=repr(strange[0])[:80])
    missing = [name for name in needed if not (folder / name).is_dir() or not any((folder / name).iterdir())]
    if missing:
        raise BadConfig(f"parts of the model in {folder} are missing", found=", ".join(missing), do="Download it again")
    pickled = [name for name in needed if _only_pickled(folder / name)]
    if pickled:
        raise BadConfig(
            f"the model in {folder} has weights as pickles, which may run code",
            found=", ".join(pickled),
            expected="safetensors",
            do="Take a version with safetensors",
        )
    return kind


def read_index(folder: Path) -> dict[str, Any]:
    """The list of a pipeline's parts, `_class_name` among them. Raises BadConfig."""
    index = folder / INDEX
    try:
        if index.stat().st_size > MAX_INDEX_BYTES:
            raise BadConfig(f"{index} is too large to be a list of parts")
        parts = json.loads(index.read_text(encoding="utf-8"))
        if not isinstance(parts, dict) or not isinstance(parts.get("_class_name"), str):
            raise ValueError("no _class_name")
        return parts
    except (OSError, ValueError, RecursionError) as error:
        raise BadConfig(
            f"{folder} holds no diffusers pipeline",
            found=str(error)[:200],
            expected=f"a folder with {INDEX} and one folder for each part",
        ) from error


OPTIONAL = ("safety_checker", "feature_extractor", "image_encoder")
"""Parts of a pipeline that editing does without."""


def _only_pickled(folder: Path) -> bool:
    return any(folder.glob("*.bin")) and not any(folder.glob("*.safetensors"))


def card_licence(folder: Path) -> str:
    """What the model's card (README.md) says in its head, "" where there is none."""
    try:
        with (folder / "README.md").open(encoding="utf-8", errors="replace") as file:
            head = file.read(MAX_CARD_BYTES)
    except OSError:
        return ""
    if not head.startswith("---"):
        return ""
    entries = dict(re.findall(r"^(license(?:_name)?):\s*[\"']?([^\"'\n#]+)", head.split("\n---")[0], re.MULTILINE))
    return entries.get("license_name", entries.get("license", "")).strip()


def lacking_library() -> str:
    """One sentence where diffusers or transformers is not installed, "" where both are."""
    missing = [name for name in ("diffusers", "transformers") if find_spec(name) is None]
    return (
        f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not installed. {INSTALL}." if missing else ""
    )
