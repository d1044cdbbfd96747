"""Editors that start from pure noise beside the picture: FLUX Kontext, Qwen-Image-Edit, SDXL InstructPix2Pix.

They cannot take a little noise at a time, so the loop gives them the whole set of pictures a few times (`rounds`); the
first edit of a run goes along as a reference where the model takes several pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from avatars.text_edit.config import EditorSettings
from avatars.text_edit.editors.loading import load_pipeline
from avatars.text_edit.editors.pictures import blended, fitted, resized
from avatars.text_edit.editors.weights import Found, find_weights, settled
from avatars.text_edit.views import Views
from shared.errors import EnvironmentFailed

MULTIPLE = 16


@dataclass(frozen=True)
class Question:
    """A picture to edit, [1, 3, H, W] in 0..1. reference: an edit that the answer should look like, None at first."""

    image: Tensor
    reference: Tensor | None
    prompt: str
    settings: EditorSettings


def _kontext(asked: Question) -> dict[str, Any]:
    high, wide = asked.image.shape[2:]
    return {"guidance_scale": asked.settings.text_guidance, "max_area": high * wide, "_auto_resize": False}


def _qwen(asked: Question) -> dict[str, Any]:
    # Its pipelines take no tensors: they ask a picture for its size as PIL tells it.
    guidance = {"true_cfg_scale": asked.settings.text_guidance, "negative_prompt": " "}
    return {**guidance, "image": _picture(asked.image)}


def _qwen_plus(asked: Question) -> dict[str, Any]:
    told = _qwen(asked)
    if asked.reference is None:
        return told
    words = f"{asked.prompt}, looking the same as in picture 2"
    return {**told, "image": [told["image"], _picture(asked.reference)], "prompt": words}


def _sdxl(asked: Question) -> dict[str, Any]:
    settings = asked.settings
    return {"guidance_scale": settings.text_guidance, "image_guidance_scale": settings.image_guidance}


def _picture(planes: Tensor) -> Any:
    """A PIL picture of planes [1, 3, H, W] in 0..1."""
    from PIL import Image

    return Image.fromarray((planes[0].permute(1, 2, 0).cpu().numpy() * 255 + 0.5).astype("uint8"))


OWN_WORDS: Mapping[str, Callable[[Question], dict[str, Any]]] = {
    "FluxKontextPipeline": _kontext,
    "QwenImageEditPipeline": _qwen,
    "QwenImageEditPlusPipeline": _qwen_plus,
    "StableDiffusionXLInstructPix2PixPipeline": _sdxl,
}
"""Diffusers' class of a pipeline -> what it is told in its own words, beside what all of them are told (`ask`)."""


def ask(pipe: Any, kind: str, asked: Question, generator: torch.Generator) -> Any:
    """What a pipeline of diffusers' class `kind` answers."""
    high, wide = asked.image.shape[2:]
    words = {"image": asked.image, "prompt": asked.prompt, "height": high, "width": wide}
    words |= {"num_inference_steps": asked.settings.steps, "generator": generator, "output_type": "pt"}
    return pipe(**(words | OWN_WORDS[kind](asked)))


class InstructEditor:
    """An `editors.Editor` over a whole diffusers pipeline. name: of `weights.MODELS`."""

    needs_maps = False
    rounds = "rounds"
    deterministic = False

    def __init__(self, name: str, device: str) -> None:
        self.name, self.device = name, device
        self.licence, self.prompt = "", ""
        self.settings = EditorSettings()
        self.pipe: Any = None
        self.found: Found | None = None
        self.reference: Tensor | None = None

    def prepare(self, prompt: str, settings: EditorSettings) -> None:
        """Load the weights once. Raises BadConfig, EnvironmentFailed."""
        found = find_weights(self.name, settings.model)
        if self.pipe is None or found != self.found:
            self.pipe, self.found = load_pipeline(found, self.device), found
        self.prompt, self.licence, self.reference = prompt, found.licence, None
        self.settings = settled(self.name, settings)

    def edit(self, views: Views, noise: tuple[float, float], generator: torch.Generator) -> Tensor:
        """The edited pictures [B, H, W, 3], made of the conditions, not of the render: each round starts anew."""
        del noise
        assert self.found is not None, "prepare comes before edit"
        high, wide = views.images.shape[1:3]
        edited = []
        for index in range(len(views.images)):
            image = fitted(views.conditions[index : index + 1], self.settings.size_px, MULTIPLE).clamp(0, 1)
            seed = int(torch.randint(2**31, (), generator=generator, device=generator.device))
            own = torch.Generator("cpu").manual_seed(seed)
            with torch.no_grad():
                asked = Question(image, self.reference, self.prompt, self.settings)
                result = ask(self.pipe, self.found.kind, asked, own)
            planes = result.images.float().cpu()
            if not torch.isfinite(planes).all():
                raise EnvironmentFailed("the editing model gave values that are not finite", do="Use another model")
            if self.reference is None:
                self.reference = planes[:1].clamp(0, 1)
            edited.append(resized(planes[:1], high, wide).permute(0, 2, 3, 1))
        return blended(views.conditions, torch.cat(edited).to(views.images.device), self.settings.strength)


def make_flux_kontext(device: str) -> InstructEditor:
    """FLUX Kontext for `editors.TABLE`."""
    return InstructEditor("flux_kontext", device)


def make_qwen_edit(device: str) -> InstructEditor:
    """Qwen-Image-Edit for `editors.TABLE`."""
    return InstructEditor("qwen_edit", device)


def make_sdxl(device: str) -> InstructEditor:
    """SDXL-class editors for `editors.TABLE`."""
    return InstructEditor("sdxl", device)
