"""Which images of a capture a run learns from, and which it is measured on."""

from __future__ import annotations

from dataclasses import replace

from avatars.captures.capture import Capture

SWAPPED = {"train": "test", "test": "train"}


def trained_on(capture: Capture, split: str) -> Capture:
    """The capture with its images marked so that 'train' is what `split` names; images marked 'val' stay so.

    'train': as recorded. 'test': the held-out images are learned and the others held out. 'all': both are learned, and
    the held-out ones are measured as before, which then says nothing about unseen frames.
    """
    images = capture.images
    if split == "test":
        images = tuple(replace(image, split=SWAPPED.get(image.split, image.split)) for image in images)
    elif split == "all":
        images += tuple(replace(image, split="train") for image in images if image.split == "test")
    return replace(capture, images=images)
