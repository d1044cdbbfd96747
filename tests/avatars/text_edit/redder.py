"""An editor for tests of the loop: whatever is there becomes red, at a depth that follows the strength."""

from __future__ import annotations

import torch
from torch import Tensor

from avatars.text_edit.config import EditorSettings
from avatars.text_edit.views import Views


class Redder:
    """Red pictures; `edited` counts them."""

    name, licence, needs_maps, rounds, deterministic = "redder", "none", False, "interval", False

    def __init__(self, device: str) -> None:
        self.strength, self.edited, self.noise = 1.0, 0, (0.0, 0.0)

    def prepare(self, prompt: str, settings: EditorSettings) -> None:
        """Nothing is asked of the words."""
        self.strength = settings.strength

    def edit(self, views: Views, noise: tuple[float, float], generator: torch.Generator) -> Tensor:
        """Red where the person is."""
        self.edited += len(views.images)
        self.noise = noise
        red = views.images.new_tensor([0.9, 0.1, 0.1])
        share = self.strength * views.alpha
        return views.conditions * (1 - share) + red * share


class AllAtOnce(Redder):
    """The same in rounds over all views."""

    rounds = "rounds"


def make_redder(device: str) -> Redder:
    """For the table."""
    return Redder(device)


def make_all_at_once(device: str) -> AllAtOnce:
    """For the table."""
    return AllAtOnce(device)
