"""What several processes are told to train together, as JSON, and who in each of them does it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from avatars.training.config import TrainConfig
    from avatars.training.progress import TrainResult


@dataclass(frozen=True)
class Order:
    """One training. kind: a name of `RUNS`. config: all values of a TrainConfig, whatever its file says by now.

    capture: a name or folder, '' for an avatar that is edited without one. name: of what is made. avatar: the folder
    of the avatar that is edited, '' where one is trained.
    """

    kind: str
    config: Mapping[str, Any]
    capture: str
    name: str
    avatar: str = ""


def training_order(config: TrainConfig, capture: str, name: str) -> Order:
    """Train an avatar or a teacher of a capture."""
    return Order("train", asdict(config), capture, name)


def edit_order(config: TrainConfig, avatar: Path, capture: str, name: str) -> Order:
    """Edit an avatar by what `edit_config` made of words; painted weights are in the configuration's file."""
    return Order("edit", asdict(config), capture, name, str(avatar))


def config_of(order: Order) -> TrainConfig:
    """The configuration of an order. Raises BadConfig."""
    from avatars.training.config import TrainConfig
    from avatars.training.typed import from_mapping

    return from_mapping(TrainConfig, order.config, "the order")


def obey(
    order: Order,
    folder: Path,
    device: str,
    on_event: Callable[[Any], None],
    wanted: Callable[[], str],
    most_batch: int = 0,
) -> TrainResult:
    """Do it, as one of the processes, in `folder`; the rest is as in avatars.training.loop.train."""
    return RUNS[order.kind](
        order,
        folder,
        name=order.name,
        device=device,
        on_event=on_event,
        wanted=wanted,
        most_batch=most_batch,
    )


def _train(order: Order, folder: Path, **how: Any) -> TrainResult:
    from avatars.captures.opening import open_capture
    from avatars.training.loop import train

    return train(config_of(order), open_capture(order.capture), folder, **how)


def _edit(order: Order, folder: Path, **how: Any) -> TrainResult:
    from avatars.text_edit.run import edit

    return edit(config_of(order), Path(order.avatar), order.capture, folder, **how)


RUNS: Mapping[str, Callable[..., TrainResult]] = {"train": _train, "edit": _edit}
