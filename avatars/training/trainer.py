"""What the loop asks of a method: parameters with rates, the losses of a batch, pictures, and an avatar at the end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor, nn

from avatars.avatar import Avatar
from avatars.rendering.rasterise import Rasterised
from avatars.training.data import Batch, Pictures
from avatars.training.schedule import log_linear


@dataclass(frozen=True, eq=False)
class RatedParameter:
    """One tensor to train, its name in checkpoints, and its learning rate as a function of the position in images.

    decay: decoupled weight decay (AdamW's), 0 for plain Adam. betas: Adam's. warm_up_images: the rate rises to its
    value over so many, from warm_up_share of it; drops: at each of these positions it is multiplied by drop.
    """

    name: str
    parameter: nn.Parameter
    start_rate: float
    final_rate: float
    until_images: int
    decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    warm_up_images: int = 0
    warm_up_share: float = 0.01
    drops: tuple[int, ...] = ()
    drop: float = 1.0

    def rate(self, at: float) -> float:
        """The learning rate at a position in images."""
        found = log_linear(self.start_rate, self.final_rate, at / max(self.until_images, 1))
        if at < self.warm_up_images:
            found *= self.warm_up_share + (1 - self.warm_up_share) * at / self.warm_up_images
        return found * self.drop ** sum(at >= place for place in self.drops)


class Trainer(Protocol):
    """One method in training. `at` is the position in the schedule in images (`schedule.images_reached`)."""

    def parameters(self) -> tuple[RatedParameter, ...]:
        """All tensors to train, in a fixed order."""

    def losses(self, batch: Batch, at: float) -> dict[str, Tensor]:
        """Named terms, already weighted; their sum is what is minimised."""

    def prepared(self, pictures: Pictures, images: tuple[int, ...]) -> Pictures:
        """Training pictures of the capture's `images`, just loaded, as the method wants them."""

    def after_step(self, batch: Batch, at: float) -> None:
        """What the method does between steps, such as first colours."""

    def render(self, batch: Batch) -> Rasterised:
        """The model in the batch's poses and cameras, without background or gradients, as the avatar will look."""

    def state(self) -> Mapping[str, Tensor]:
        """What beside the parameters a resume needs."""

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Inverse of `state`."""

    def finish(self) -> Avatar:
        """The trained avatar. From then on `render` shows it as it will be stored."""

    def gaussians(self) -> int:
        """How many Gaussians are being trained."""
