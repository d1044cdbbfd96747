"""Files beside the avatar of a live training: online.yaml, sample.txt, step2frame.txt and speed.txt (page 6.2)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import yaml

from avatars.online.config import OnlineConfig

CONFIG, SAMPLES, NEWEST, SPEED = "online.yaml", "sample.txt", "step2frame.txt", "speed.txt"


class StepLog(Protocol):
    """Told of every step."""

    def step(self, frames: Sequence[int], newest: int) -> None:
        """The source's numbers of the frames learned in this step, and of the newest that had arrived."""


class NoRecord:
    """A StepLog that keeps nothing."""

    def step(self, frames: Sequence[int], newest: int) -> None:
        """Nothing to do."""


class Record:
    """The files of one run in `folder`, which is made. sample.txt and step2frame.txt hold one line for each step."""

    def __init__(self, folder: Path, config: OnlineConfig) -> None:
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / CONFIG).write_text(yaml.safe_dump(plain(dataclasses.asdict(config)), sort_keys=False), "utf-8")
        self._samples = (self.folder / SAMPLES).open("w", encoding="utf-8", buffering=1)
        self._newest = (self.folder / NEWEST).open("w", encoding="utf-8", buffering=1)

    def step(self, frames: Sequence[int], newest: int) -> None:
        """Write a step's lines."""
        self._samples.write(" ".join(map(str, frames)) + "\n")
        self._newest.write(f"{newest}\n")

    def finish(self, steps: int, images: int, seconds: float) -> None:
        """Write speed.txt and close. seconds: spent in steps and between them, pauses left out."""
        rate = images / seconds if seconds > 0 else 0.0
        text = f"iterations: {steps}\nimages: {images}\nseconds: {seconds:.2f}\nimages/s: {rate:.2f}\n"
        (self.folder / SPEED).write_text(text, encoding="utf-8")
        self._samples.close()
        self._newest.close()


def plain(value: Any) -> Any:
    """Tuples and mappings as YAML knows them."""
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    return [plain(inner) for inner in value] if isinstance(value, list | tuple) else value
