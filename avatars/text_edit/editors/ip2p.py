"""InstructPix2Pix with partial noise: the render, noised to a chosen level, is denoised towards the prompt.

Instruct-NeRF2NeRF (Haque et al. 2023) over diffusers' parts; the loop is ours, since the pipeline always starts from
pure noise (method page A.4, B.1).
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from avatars.text_edit.config import EditorSettings
from avatars.text_edit.editors.loading import load_pipeline
from avatars.text_edit.editors.pictures import blended, squared, unsquared
from avatars.text_edit.editors.weights import Found, find_weights, settled
from avatars.text_edit.views import Views
from shared.errors import BadConfig, EnvironmentFailed

VAE_FACTOR = 8


class InstructPix2Pix:
    """An `editors.Editor`. The pipeline is loaded by `prepare`, from this machine only."""

    name = "ip2p"
    needs_maps = False
    rounds = "interval"
    deterministic = False

    def __init__(self, device: str) -> None:
        self.device = device
        self.licence = ""
        self.settings = EditorSettings()
        self.pipe: Any = None
        self.found: Found | None = None
        self.text: Tensor | None = None

    def prepare(self, prompt: str, settings: EditorSettings) -> None:
        """Load the weights once and encode the prompt. Raises BadConfig, EnvironmentFailed."""
        found = find_weights(self.name, settings.model)
        if self.pipe is None or found != self.found:
            self.pipe, self.found = load_pipeline(found, self.device), found
        self.settings, self.licence = settled(self.name, settings), found.licence
        self.text = self._encoded_prompt(prompt)

    def _encoded_prompt(self, prompt: str) -> Tensor:
        """[3, L, D]: the prompt, then the empty one twice, in the order of the guided batch."""
        tokenizer, encoder = self.pipe.tokenizer, self.pipe.text_encoder
        ids = tokenizer(
            [prompt, ""],
            padding="max_length",
            max_length=tokenizer.model_max_length,
            truncation=True,
            return_tensors="pt",
        ).input_ids.to(self.device)
        with torch.no_grad():
            positive, negative = encoder(ids)[0]
        return torch.stack((positive, negative, negative))

    def edit(self, views: Views, noise: tuple[float, float], generator: torch.Generator) -> Tensor:
        """The edited pictures [B, H, W, 3]. noise: the level is drawn evenly from this part of 0..1, for each."""
        assert self.text is not None, "prepare comes before edit"
        side = max(VAE_FACTOR, self.settings.size_px // VAE_FACTOR * VAE_FACTOR)
        high, wide = views.images.shape[1:3]
        edited = []
        for index in range(len(views.images)):
            one = slice(index, index + 1)
            image = squared(views.images[one], views.background, side)
            condition = squared(views.conditions[one], views.background, side)
            edited.append(unsquared(self._one(image, condition, noise, generator), high, wide))
        return blended(views.images, torch.cat(edited), self.settings.strength)

    def _one(self, image: Tensor, condition: Tensor, noise: tuple[float, float], generator: torch.Generator) -> Tensor:
        """One picture [1, 3, S, S] in 0..1."""
        vae, scheduler = self.pipe.vae, self.pipe.scheduler
        with torch.no_grad():
            posterior = vae.encode(image.to(self.device, vae.dtype) * 2 - 1).latent_dist
            drawn = _normal(posterior.mean.shape, generator).to(posterior.mean)
            latents = (posterior.mean + posterior.std * drawn) * vae.config.scaling_factor
            mode = vae.encode(condition.to(self.device, vae.dtype) * 2 - 1).latent_dist.mode()
            last = scheduler.config.num_train_timesteps - 1
            low, top = noise
            level = low + (top - low) * float(torch.rand((), generator=generator, device=generator.device))
            start = min(last, max(1, round(level * scheduler.config.num_train_timesteps)))
            fresh = _normal(latents.shape, generator).to(latents)
            clean = self.denoised(latents, mode, fresh, start)
            picture = vae.decode((clean / vae.config.scaling_factor).to(vae.dtype)).sample
        if not torch.isfinite(picture).all():
            raise EnvironmentFailed(
                "the editing model gave values that are not finite", do="Use another device or model"
            )
        return (picture.float() * 0.5 + 0.5).clamp(0, 1)

    def denoised(self, latents: Tensor, image_latents: Tensor, fresh: Tensor, start: int) -> Tensor:
        """Latents [1, 4, h, w] noised by `fresh` to time step `start` and led back to 0 in the settings' steps."""
        kept = self.pipe.scheduler.alphas_cumprod.to(latents.device, torch.float32)
        # From exactly the noised level to 0; equal neighbours of a short way are left out.
        times = torch.linspace(start, 0, self.settings.steps + 1).round().long().unique().flip(0).tolist()
        current = kept[start].sqrt() * latents.float() + (1 - kept[start]).sqrt() * fresh.float()
        clean = current
        for now, after in pairwise(times):
            direction = self._guided(current, image_latents, now, float(kept[now]))
            clean = (current - (1 - kept[now]).sqrt() * direction) / kept[now].sqrt()
            current = kept[after].sqrt() * clean + (1 - kept[after]).sqrt() * direction
        return clean

    def _guided(self, current: Tensor, image_latents: Tensor, time: int, kept: float) -> Tensor:
        """Predicted noise with guidance by text and by image; batch order: both, image alone, neither."""
        unet = self.pipe.unet
        image = torch.cat((image_latents, image_latents, torch.zeros_like(image_latents))).to(unet.dtype)
        model_input = torch.cat((current.expand(3, -1, -1, -1).to(unet.dtype), image), 1)
        assert self.text is not None
        predicted = unet(model_input, time, encoder_hidden_states=self.text.to(unet.dtype)).sample.float()
        kind = self.pipe.scheduler.config.prediction_type
        if kind == "v_prediction":
            predicted = kept**0.5 * predicted + (1 - kept) ** 0.5 * current
        elif kind == "sample":
            predicted = (current - kept**0.5 * predicted) / max((1 - kept) ** 0.5, 1e-6)
        elif kind != "epsilon":
            raise BadConfig("the model predicts something unknown", found=str(kind), expected="epsilon or v_prediction")
        both, image_only, neither = predicted.chunk(3)
        text, picture = self.settings.text_guidance, self.settings.image_guidance
        return neither + text * (both - image_only) + picture * (image_only - neither)


def _normal(shape: torch.Size, generator: torch.Generator) -> Tensor:
    return torch.randn(shape, generator=generator, device=generator.device)


def make_ip2p(device: str) -> InstructPix2Pix:
    """The editor for `editors.TABLE`."""
    return InstructPix2Pix(device)
