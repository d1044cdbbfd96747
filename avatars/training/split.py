"""Which images of a capture a run learns from, and which it is measured on."""

from __future__ import annotations

from dataclasses import replace

from avatars.captures.capture import Capture

SWAPPED = {"train": "test", "test": "train"}


def trained_on(capture: Capture, split: str) -> Capture:
    """The capture with its images marked so that 'train' is what `split` names; images marked 'val' stay so.

    'train': as recorded. 'test': the held-out images are learned and the others held out. 'all': both are learned, and
    the held-out ones are measured as before, which then says nothing about unseen frames. Held-out pictures in lights
    of their own are left out while there are others: nobody can be measured by them who is not relit first.
    """
    images = capture.images
    if split == "test":
        images = tuple(replace(image, split=SWAPPED.get(image.split, image.split)) for image in images)
    elif split == "all":
        images += tuple(replace(image, split="train") for image in images if image.split == "test")
    held_out = [image for image in images if image.split == "test"]
    if any(image.light is None for image in held_out):
        images = tuple(image for image in images if image.split != "test" or image.light is None)
    return replace(capture, images=images)
