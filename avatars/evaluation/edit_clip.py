"""How well an edit follows its prompt, by CLIP, with weights that the user has; none are downloaded.

Definitions of Instruct-NeRF2NeRF (Haque et al. 2023) and GaussianAvatar-Editor (method page A.8).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, interpolate, normalize

from avatars.text_edit.editors.weights import cached, lacking_library
from avatars.training.ssim import check_images
from shared.errors import BadConfig, EnvironmentFailed

HUB_NAME = "openai/clip-vit-large-patch14"
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
PROMPT_BEFORE = "a photo of a person"


@dataclass(frozen=True)
class ClipFigures:
    """Means over pictures.

    similarity: of edited pictures and prompt; direction: of the changes of pictures and of texts; consistency: of
    neighbours in the sequence; directional_consistency: of their changes. For one picture both are nan.
    """

    similarity: float
    direction: float
    consistency: float
    directional_consistency: float


class Clip:
    """CLIP from a folder of transformers' format. Raises EnvironmentFailed, BadConfig."""

    def __init__(self, folder: Path, device: str = "cpu") -> None:
        problem = lacking_library()
        if problem:
            raise EnvironmentFailed("CLIP needs libraries that are not installed", found=problem)
        from transformers import AutoTokenizer, CLIPModel

        try:
            self.model: Any = CLIPModel.from_pretrained(str(folder), local_files_only=True, use_safetensors=True)
            self.tokenizer: Any = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
        except (OSError, ValueError, KeyError, RuntimeError, TypeError) as error:
            raise BadConfig(
                f"{folder} holds no CLIP model",
                found=str(error).split("\n")[0][:200],
                expected="a folder with config.json, model.safetensors and a tokenizer",
            ) from error
        self.model = self.model.to(device).eval()
        self.device = device

    def of_images(self, images: Tensor) -> Tensor:
        """Unit features [B, D] of pictures [B, H, W, 3] in 0..1, made square by resizing (bicubic)."""
        side = self.model.config.vision_config.image_size
        planes = images.permute(0, 3, 1, 2).to(self.device).float()
        planes = interpolate(planes, (side, side), mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)
        mean, std = (planes.new_tensor(part).view(1, 3, 1, 1) for part in (MEAN, STD))
        with torch.no_grad():
            pooled = self.model.vision_model(pixel_values=(planes - mean) / std).pooler_output
            return normalize(self.model.visual_projection(pooled), dim=-1)

    def of_texts(self, texts: Sequence[str]) -> Tensor:
        """Unit features [T, D] of texts."""
        given = self.tokenizer(list(texts), padding=True, truncation=True, return_tensors="pt").to(self.device)
        with torch.no_grad():
            pooled = self.model.text_model(**given).pooler_output
            return normalize(self.model.text_projection(pooled), dim=-1)


def find_clip(folder: str = "") -> Path | None:
    """The folder of CLIP's weights: the given one, or ViT-L/14 in the hub's cache; None where there is none."""
    if folder:
        return Path(folder).expanduser()
    return cached(HUB_NAME, "config.json")


def clip_figures(edited: Tensor, before: Tensor, texts: Tensor, features: Any) -> ClipFigures:
    """Figures of pictures [B, H, W, 3] edited and before.

    texts [2, D]: unit features of the text before and of the prompt. features: gives unit features [B, D] of pictures
    (`Clip.of_images`). Raises EffigyError for pictures of two sizes.
    """
    check_images(edited, before)
    after, start = features(edited), features(before)
    change = after - start
    wanted = (texts[1] - texts[0])[None]

    def neighbours(rows: Tensor) -> float:
        return float(cosine_similarity(rows[:-1], rows[1:]).mean()) if len(rows) > 1 else float("nan")

    return ClipFigures(
        similarity=float((after @ texts[1]).mean()),
        direction=float(cosine_similarity(change, wanted).mean()),
        consistency=neighbours(after),
        directional_consistency=neighbours(change),
    )


def measure_clip(clip: Clip, edited: Tensor, before: Tensor, prompt: str, was: str = PROMPT_BEFORE) -> ClipFigures:
    """Figures of an edit by `prompt`; `was` says what the pictures showed before."""
    return clip_figures(edited, before, clip.of_texts([was, prompt]), clip.of_images)
