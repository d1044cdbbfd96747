"""Both vocabularies of the original's inference give the same frame lists."""

from __future__ import annotations

from dataclasses import replace

import pytest

from avatars.captures.capture import Capture
from avatars.captures.mocap_splits import view_split
from avatars.captures.opening import open_capture
from avatars.captures.options import SplitChoice
from avatars.evaluation.frame_lists import frame_views
from shared.errors import BadConfig


@pytest.fixture(scope="module")
def capture() -> Capture:
    return open_capture("demo_body")


def test_old_and_new_words_mean_the_same_frames(capture: Capture) -> None:
    old, nvs, unseen = (frame_views(capture, mode) for mode in ("val", "nvs", "unseen"))
    assert old == nvs + unseen
    assert frame_views(capture, "test") == frame_views(capture, "odp") == ()
    trained = set(capture.training_frames())
    assert {item.frame for item in nvs} <= trained
    assert {item.view for item in nvs} == {2, 7}, "the cameras kept back"
    assert {item.frame for item in unseen} == {5, 11, 17, 23, 29, 35}
    assert all(capture.images[item.image].split != "train" for item in old if item.image is not None)
    for item in old:
        assert item.image is not None
        shown = capture.images[item.image]
        assert (shown.frame, shown.camera) == (item.frame, item.view)


def test_a_view_can_be_asked_for_also_one_without_truth(capture: Capture) -> None:
    asked = frame_views(capture, "val", novel_view=3)
    assert {item.view for item in asked} == {3}
    thinned = replace(capture, images=tuple(image for image in capture.images if image.camera != 3))
    assert {item.image for item in frame_views(thinned, "nvs", novel_view=3)} == {None}
    with pytest.raises(BadConfig, match="has no view 10"):
        frame_views(capture, "val", novel_view=10)
    with pytest.raises(BadConfig, match="unknown --infer_mode"):
        frame_views(capture, "validate")


def test_the_originals_steps_on_its_own_recording(capture: Capture) -> None:
    """ZJU 377: training frames every 2nd, unseen ones every 50th from 300 on, from the cameras kept back."""
    from pathlib import Path

    split, _ = view_split("zju", Path("CoreView_377"), 617, 23, SplitChoice())
    model = capture.images[0]
    images = tuple(replace(model, frame=frame, camera=camera, split=name) for frame, camera, name in split.wanted())
    camera = capture.cameras[0]
    wide = replace(capture, images=images, cameras=(camera,) * 23, camera_names=tuple(str(k) for k in range(23)))
    nvs = frame_views(wide, "nvs", novel_view=2)
    assert [item.frame for item in nvs] == list(range(0, 300, 2))
    unseen = frame_views(wide, "unseen", novel_view=2)
    assert [item.frame for item in unseen] == [300, 350, 400, 450, 500, 550, 600]
    assert {item.view for item in frame_views(wide, "nvs")} == set(range(23)) - {0, 6, 12, 18}
