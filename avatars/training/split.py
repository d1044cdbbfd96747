"""Which images of a capture a run learns from, and which it is measured on."""

from __future__ import annotations

from dataclasses import replace

from avatars.captures.capture import Capture

SWAPPED = {"train": "test", "test": "train"}


def trained_on(capture: Capture, split: str) -> Capture:
    """The capture with its images marked so that 'train' is what `split` names.

    'train': as recorded. 'test': the held-out images are learned and the others held out. 'all': every image is
    learned, and the held-out ones are measured as before, which then says nothing about unseen frames.
    """
    if split == "train":
        return capture
    if split == "test":
        return replace(capture, images=tuple(replace(it, split=SWAPPED[it.split]) for it in capture.images))
    learned = tuple(replace(image, split="train") for image in capture.images)
    return replace(capture, images=learned + tuple(image for image in capture.images if image.split == "test"))
