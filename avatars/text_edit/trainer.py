"""An edit as the shared training loop asks for it: pictures are edited now and then, the avatar follows them.

GaussianAvatar-Editor (method page A): render, edit the picture, pull the Gaussians towards it by weighted blending, so
that only those seen are changed; an adversarial term damps the disagreement of independent edits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from avatars.avatar import Avatar
from avatars.avatar_folder import load_avatar
from avatars.captures.capture import Capture
from avatars.gaussians.posed import PosedGaussians
from avatars.rendering.cameras import CameraBatch
from avatars.rendering.rasterise import Rasterised, rasterise
from avatars.rendering.weighted import Weighted, rasterise_weighted
from avatars.text_edit.adversary import GAIN, Adversary, paired
from avatars.text_edit.cache import EditCache, Key
from avatars.text_edit.editable import Trained, editable_of
from avatars.text_edit.editors import Editor, open_editor
from avatars.text_edit.gates import painted_gate, read_weights, region_gate, static_gate, visible_gate
from avatars.text_edit.maps import surface_maps
from avatars.text_edit.mouth import MouthMasks
from avatars.text_edit.surface import surface_of
from avatars.text_edit.terms import PictureTerms, model_terms, mouth_terms
from avatars.text_edit.views import Views
from avatars.training import ranks
from avatars.training.config import TrainConfig
from avatars.training.data import Batch, Pictures
from avatars.training.evaluation import as_uint8
from avatars.training.trainer import RatedParameter

LIT = ("relit_head", "relit_body")
"""Methods whose photographs show more than the diffuse part that is edited; their own renders are the condition."""


class EditTrainer:
    """A `Trainer` that edits one avatar. Raises BadAvatar, BadConfig, and what its editor raises."""

    def __init__(self, config: TrainConfig, capture: Capture, device: str) -> None:
        self.config, self.wanted, self.device = config, config.edit, torch.device(device)
        edit = self.wanted
        folder = Path(edit.avatar)
        self.avatar, self.original = load_avatar(folder, device), load_avatar(folder, device)
        motion = capture.motion
        self.motion = tuple(
            torch.from_numpy(np.array(values)).to(self.device)
            for values in (motion.rotations, motion.translations, motion.expressions)
        )
        self.editor = open_editor(edit.editor, device)
        if ranks.rank() == 0 or hasattr(self.editor, "regions"):  # the first edits for all; others load no weights
            self.editor.prepare(edit.prompt, edit.settings)
        self.deterministic = bool(getattr(self.editor, "deterministic", False))
        self.surface = surface_of(self.original, self.device)
        painted = read_weights(Path(edit.weights_file)) if edit.weights_file else None
        self.gate = static_gate(self.original, self.surface, edit, painted, regions_named(self.editor))
        self.region: Tensor | None = None
        if painted is not None or edit.settings.region.strip():
            self.region = region_gate(self.surface, edit.settings.region)
            if painted is not None:
                self.region = self.region * painted_gate(self.original, self.surface, painted)
        self.editable = editable_of(self.avatar, edit.rates, self.motion)  # type: ignore[arg-type]
        self.start = tuple(None if part is None else part.detach().clone() for part in self.editable.places())
        self.cache, self.masks = EditCache(edit.max_edit_views), MouthMasks(self.original)
        self.mouths: dict[Key, Tensor] = {}
        self.colours_before: dict[int, Tensor] = {}
        self.offsets: dict[int, Tensor] = {}
        self.terms = PictureTerms(edit.weights, edit.late_structure, self.device)
        self.adversary = Adversary(edit, self.device, config.seed) if edit.adversarial else None
        self.generator = torch.Generator().manual_seed(config.seed)
        self.steps, self.round, self.waiting = 0, -1, list[int]()
        self.where_images = {index: (image.camera, image.frame) for index, image in enumerate(capture.images)}
        self.photographs = bool(edit.capture) and self.avatar.method not in LIT
        self.pictures: Pictures | None = None
        self.keys: tuple[Key, ...] = ()
        self.row_of: dict[int, int] = {}
        self.last: tuple[int, Tensor, Tensor] | None = None
        self.before: tuple[Tensor, ...] = ()
        self.step_gate = self.gate

    # --- what the loop asks
    def gaussians(self) -> int:
        """How many Gaussians there are."""
        return len(self.gate)

    def parameters(self) -> tuple[RatedParameter, ...]:
        """What the edit changes; rates fall to a tenth over the run."""
        total = self.config.schedule.images
        return tuple(
            RatedParameter(entry.name, entry.parameter, entry.rate, 0.1 * entry.rate, total)
            for entry in self.editable.trained
        )

    def prepared(self, pictures: Pictures, images: tuple[int, ...]) -> Pictures:
        """The pictures as they are; they are kept at hand, since edits choose among them."""
        self.pictures = pictures
        self.keys = tuple(self.where_images[index] for index in images)
        self.row_of = {index: row for row, index in enumerate(images)}
        return pictures

    def losses(self, batch: Batch, at: float) -> dict[str, Tensor]:
        """Named terms against edited pictures. Of the batch only which views it has counts."""
        assert self.pictures is not None
        assert batch.images is not None
        share = at / self.config.schedule.images
        part = batch.part or ranks.Part(0, len(batch.images), len(batch.images), batch.images)
        images = batch.images if part.images is None else part.images
        # All processes choose for the whole step, so that all know which views have been edited.
        rows = self._chosen([self.row_of[index] for index in images.tolist()], share)[part.first : part.last]
        edited = torch.stack([self.cache.picture(self.keys[row]) for row in rows])
        image, kept, posed = self._shown(rows)
        shown = image.colours
        terms = self.terms(shown, edited, share)
        terms |= model_terms(self.editable, self.start, self.wanted.weights)  # type: ignore[arg-type]
        terms |= self._mouth(rows, shown, kept, part)
        terms |= self._adversarial(rows, posed, shown, edited, share, part)
        best = ranks.highest(image.shares.detach().amax(0, keepdim=True).contiguous())
        self.step_gate = self.gate * visible_gate(best, self.wanted.wabe, self.wanted.beta)
        self.before = tuple(entry.parameter.detach().clone() for entry in self.editable.trained)
        self.steps += 1
        return terms

    def after_step(self, batch: Batch, at: float) -> None:
        """Take back of each Gaussian's step what its gate does not let through."""
        with torch.no_grad():
            for entry, before in zip(self.editable.trained, self.before, strict=True):
                gate = gate_of(entry, self.step_gate)
                entry.parameter.copy_(torch.lerp(before, entry.parameter, gate.expand_as(before)))

    def render(self, batch: Batch) -> Rasterised:
        """The avatar as it is now, blended in the ordinary way."""
        with torch.no_grad():
            posed = self.editable.posed(batch.frames).seen_from(batch.cameras.positions())
            return rasterise(posed, batch.cameras, posed.colours)

    def state(self) -> Mapping[str, Tensor]:
        """Cache, generator, counters and discriminator."""
        found = self.cache.state() | {"generator": self.generator.get_state()}
        found["counters"] = torch.tensor([self.steps, self.round, *self.waiting], dtype=torch.int64)
        return found | (self.adversary.state() if self.adversary is not None else {})

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Inverse of `state`."""
        self.cache.restore(state, self.device)
        self.generator.set_state(state["generator"].clone())
        self.steps, self.round, *self.waiting = state["counters"].tolist()
        if self.adversary is not None:
            self.adversary.restore(state)

    def finish(self) -> Avatar:
        """The edited avatar."""
        for entry in self.editable.trained:
            entry.parameter.requires_grad_(False)
        return self.editable.finish()

    def preview(self) -> NDArray[np.uint8]:
        """[H, 3 W, 3] uint8: a view before, as it was edited, and as the avatar shows it now."""
        if self.last is None or self.pictures is None:
            return np.full((64, 192, 3), 255, np.uint8)
        row, before, edited = self.last
        return np.concatenate([as_uint8(part) for part in (before, edited, self.picture(self.batch([row]))[0])], 1)

    def picture(self, batch: Batch) -> Tensor:
        """The avatar as it is now over the batch's backgrounds, [B, H, W, 3]."""
        drawn = self.render(batch)
        return drawn.features + (1 - drawn.alpha[..., None]) * batch.backgrounds[:, None, None]

    def edit_all(self) -> None:
        """Edit as many views as the cache holds, at once, before any step."""
        spread = np.unique(np.linspace(0, len(self.keys) - 1, self.wanted.max_edit_views).round().astype(int))
        for row in spread.tolist():
            self._edit([row], 0.0)

    # --- parts
    def batch(self, rows: list[int]) -> Batch:
        """Pictures `rows` of the run over white, as everything here is."""
        assert self.pictures is not None
        return self.pictures.batch(torch.tensor(rows), torch.ones(len(rows), 3))

    def _chosen(self, rows: list[int], share: float) -> list[int]:
        """Edit what is due, then the rows of this step: those asked for that are edited, in place of others any."""
        edit, cache = self.wanted, self.cache
        if self.editor.rounds == "rounds":
            current = min(int(share * edit.rounds), edit.rounds - 1)
            if current > self.round:
                spread = np.unique(np.linspace(0, len(self.keys) - 1, edit.max_edit_views).round().astype(int))
                self.round, self.waiting = current, spread.tolist()
            due, self.waiting = self.waiting[: edit.edits_per_update], self.waiting[edit.edits_per_update :]
            self._edit(due, share)
        elif not edit.cache:
            self._edit(rows, share)
            return rows
        elif self.steps % edit.edit_interval == 0 or not len(cache):
            fresh = [row for row in rows if self.keys[row] not in cache.entries]
            fresh += [row for row, key in enumerate(self.keys) if key not in cache.entries and row not in fresh]
            if fresh and not cache.full:
                self._edit(fresh[: edit.edits_per_update], share)
            elif not self.deterministic:
                self._edit([cache.entries[key].row for key in cache.oldest(edit.edits_per_update)], share)
        known = [row for row in rows if self.keys[row] in cache.entries]
        missing = len(rows) - len(known)
        return known + [cache.entries[key].row for key in cache.draw(missing, self.generator)] if missing else known

    @torch.no_grad()
    def _edit(self, rows: list[int], share: float) -> None:
        """Let the editor change views `rows`, and keep what it gives; process 0's, where there are several."""
        if not rows:
            return
        made: dict[str, Tensor] = {}
        if ranks.rank() == 0:
            made = {"edited": self._edited(rows, share), "generator": self.generator.get_state()}
        if ranks.count() > 1:
            made = ranks.of_first(made)
            self.generator.set_state(made["generator"])
        for index, row in enumerate(rows):
            self.cache.put(self.keys[row], row, made["edited"][index].to(self.device), self.steps)

    def _edited(self, rows: list[int], share: float) -> Tensor:
        edit, batch = self.wanted, self.batch(rows)
        cameras, white = batch.cameras, batch.backgrounds
        unedited = self.unedited(batch)
        first = rasterise(unedited, cameras, unedited.colours, background=white)
        conditions = batch.target() if self.photographs else first.features.clamp(0, 1)
        images, alpha = first.features.clamp(0, 1), first.alpha
        if not self.deterministic:
            posed = self.editable.posed(batch.frames).seen_from(cameras.positions())
            now = rasterise(posed, cameras, posed.colours, background=white)
            images, alpha = now.features.clamp(0, 1), now.alpha
        where = None
        if self.region is not None:
            spread = self.region[None, :, None].expand(len(rows), -1, 1).contiguous()
            where = rasterise(unedited, cameras, spread).features.clamp(0, 1)
        views = Views(
            images,
            conditions,
            alpha[..., None],
            cameras,
            batch.frames,
            white[0],
            surface_maps(unedited, cameras, self.surface) if self.editor.needs_maps else None,
            where,
        )
        highest = edit.noise_high + (edit.noise_high_final - edit.noise_high) * share
        edited = self.editor.edit(views, (edit.noise_low, highest), self.generator)
        kept = images if self.deterministic else conditions
        if where is not None:
            edited = where * edited + (1 - where) * kept
        self.last = rows[-1], kept[-1], edited[-1].clamp(0, 1)
        return edited

    def unedited(self, batch: Batch) -> PosedGaussians:
        """The avatar as it was before, with normals."""
        posed = self.original.pose(*(part[batch.frames] for part in self.motion))
        return posed.seen_from(batch.cameras.positions())

    def _shown(self, rows: list[int]) -> tuple[Weighted, Tensor, PosedGaussians]:
        """The avatar now over white with how much of each Gaussian is seen, what pictures show, and its Gaussians."""
        batch = self.batch(rows)
        posed = self.editable.posed(batch.frames).seen_from(batch.cameras.positions())
        wabe = self.wanted.wabe
        if wabe == "exact":
            image = rasterise_weighted(
                posed, batch.cameras, posed.colours, beta=self.wanted.beta, background=batch.backgrounds
            )
            offsets = torch.cat([self._offset(row) for row in rows])
            image = replace(image, colours=image.colours + offsets)
        else:
            drawn = rasterise(posed, batch.cameras, posed.colours, background=batch.backgrounds, depth=False)
            everything = posed.means.new_ones(len(rows), posed.count)
            shares = everything if wabe == "off" else seen_shares(posed, batch.cameras)
            image = Weighted(drawn.features, drawn.alpha, shares)
        return image, batch.target(), posed

    @torch.no_grad()
    def _offset(self, row: int) -> Tensor:
        """What ordinary blending shows more than weighted blending in a view before the edit, [1, H, W, 3].

        Edited pictures are made from ordinary blending. Without this, what was not edited would be changed until
        weighted blending looks like them, and look wrong in every other picture.
        """
        if row not in self.offsets:
            batch = self.batch([row])
            posed, white = self.unedited(batch), batch.backgrounds
            plain = rasterise(posed, batch.cameras, posed.colours, background=white, depth=False).features
            weighted = rasterise_weighted(posed, batch.cameras, posed.colours, beta=self.wanted.beta, background=white)
            self.offsets[row] = (plain - weighted.colours).half()
        return self.offsets[row].float()

    def _mouth(self, rows: list[int], shown: Tensor, kept: Tensor, part: ranks.Part) -> dict[str, Tensor]:
        weights = self.wanted.weights
        if not self.wanted.keep_mouth or not self.masks.any or max(weights.mouth_l1, weights.mouth_ssim) <= 0:
            return {}
        masks = torch.stack([self._mouth_mask(row) for row in rows])
        terms = mouth_terms(shown, kept, masks, weights)
        return ranks.evened(terms, dict.fromkeys(("mouth_l1", "mouth_ssim"), masks.sum()), part)

    def _mouth_mask(self, row: int) -> Tensor:
        key = self.keys[row]
        if key not in self.mouths:
            batch = self.batch([row])
            parts = [part[batch.frames] for part in self.motion]
            self.mouths[key] = self.masks.mask(*parts, batch.cameras)[0].to(self.device)
        return self.mouths[key]

    def _adversarial(
        self, rows: list[int], posed: PosedGaussians, shown: Tensor, edited: Tensor, share: float, part: ranks.Part
    ) -> dict[str, Tensor]:
        if self.adversary is None or share < self.wanted.adversarial_from:
            return {}
        others = self.cache.draw(part.whole, self.generator)[part.first : part.last]
        if self.wanted.adversary == "edits":
            fake = paired(edited, shown - edited)
            other = torch.stack([self.cache.picture(key) for key in others])
            real = paired(other, torch.zeros_like(other))
        else:
            now, before = self._between(rows, posed, [self.cache.entries[key].row for key in others])
            fake, real = paired(edited, now, GAIN), paired(edited, before, GAIN)
        self.adversary.learn(fake, real, self.generator, part.share)
        return {"adversarial": self.adversary.loss(fake, self.generator)} if self.adversary.warm else {}

    def _between(self, rows: list[int], posed: PosedGaussians, others: list[int]) -> tuple[Tensor, Tensor]:
        """How views `rows` would change if their Gaussians had the colours they have in views `others`.

        Two of [B, H, W, 3]: now, with a gradient to colours, and before the edit. Gaussians are the same ones in all
        views, so that nothing need be searched for or warped.
        """
        second = self.batch(others)
        there = self.editable.posed(second.frames).seen_from(second.cameras.positions())
        first_before, second_before = (self._colours_before(part) for part in (rows, others))
        changes = torch.cat((posed.colours - there.colours, first_before - second_before), -1)
        still = replace(posed, means=posed.means.detach(), quats=posed.quats.detach(), scales=posed.scales.detach())
        still = replace(still, opacities=posed.opacities.detach())
        drawn = rasterise(still, self.batch(rows).cameras, changes, depth=False).features
        return drawn[..., :3], drawn[..., 3:].detach()

    @torch.no_grad()
    def _colours_before(self, rows: list[int]) -> Tensor:
        """Colours [B, N, 3] of the unedited avatar in views `rows`."""
        for row in rows:
            if row not in self.colours_before:
                self.colours_before[row] = self.unedited(self.batch([row])).colours
        return torch.cat([self.colours_before[row] for row in rows])


def regions_named(editor: Editor) -> str:
    """The regions a prepared editor says that it changes, comma-separated; "" where it does not say, or for all."""
    return ",".join(getattr(editor, "regions", ()))


def gate_of(entry: Trained, gate: Tensor) -> Tensor:
    """The gate [N] in the shape of a trained tensor, times its factor."""
    shape = [1] * entry.parameter.ndim
    shape[entry.axis] = len(gate)
    found = gate.view(shape)
    return found if entry.factor is None else found * entry.factor


@torch.no_grad()
def seen_shares(posed: PosedGaussians, cameras: CameraBatch) -> Tensor:
    """How much of each Gaussian is seen, [B, N], without a gradient: the shares of weighted blending."""
    return rasterise_weighted(posed, cameras, posed.colours, beta=0.0).shares
