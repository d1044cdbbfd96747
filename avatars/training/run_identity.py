"""What makes two runs the same: a checkpoint goes on only where it is."""

from __future__ import annotations

import dataclasses
import hashlib
import json

from avatars.captures.capture import Capture
from avatars.training.config import TrainConfig


def run_identity(config: TrainConfig, capture: Capture) -> str:
    """Digest of what decides the result: configuration without reporting, capture, template."""
    values = dataclasses.asdict(config)
    values.pop("reporting")
    values["schedule"].pop("grow_batch")  # how many pictures a step has may change where a run goes on
    names = [(image.file.name, image.camera, image.frame, image.split) for image in capture.images]
    numbers = [capture.name, capture.template.as_json(), capture.numbers_digest()]
    described = json.dumps([values, *numbers, names], sort_keys=True)
    return hashlib.sha256(described.encode()).hexdigest()
