"""The demanding performance and the settings of the talking head: coverage of both splits, blocks, digests."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from blender_addon.synthesise import scene as stage
from blender_addon.synthesise.cli import parse
from blender_addon.synthesise.motion import talking_head
from blender_addon.synthesise.motion_wide import FACES, wide_performance
from blender_addon.synthesise.performances import perform
from blender_addon.synthesise.settings import KNOWN, CaptureSettings
from shared import template
from shared.errors import BadConfig, EnvironmentFailed

HARD = KNOWN["talking_head"]


@pytest.fixture(scope="module")
def bust() -> template.TemplateArrays:
    return template.bust_view(template.load_template())


def test_hard_capture_holds_out_whole_stretches() -> None:
    test = np.array([HARD.split(frame) == "test" for frame in range(HARD.frames)])
    assert test.mean() == pytest.approx(0.2)
    edges = np.flatnonzero(np.diff(test.astype(int)))
    assert len(edges) == 2 * HARD.test_blocks - 1, "so few neighbours of held-out frames are trained on"
    assert HARD.views() == [(frame, 0) for frame in range(600)]
    with pytest.raises(BadConfig, match="test_blocks"):
        replace(HARD, test_blocks=200)


def test_wide_performance_is_wide_in_both_splits(bust: template.TemplateArrays) -> None:
    played = perform(HARD.performance, bust, HARD.frames, HARD.seed, HARD.fps)
    test = np.array([HARD.split(frame) == "test" for frame in range(HARD.frames)])
    names = bust.expression_names
    turned = played.rotations[:, [bust.joint(name) for name in ("spine3", "neck", "head")]].sum(1)
    pitch, roll, yaw = np.degrees(turned).T
    assert yaw.max() > 54
    assert yaw.min() < -54
    assert (pitch.max() > 22, pitch.min() < -23, roll.max() > 13, roll.min() < -13) == (True, True, True, True)
    for chosen in (test, ~test):
        assert np.ptp(yaw[chosen]) > 90
        assert np.ptp(pitch[chosen]) > 30
        assert np.ptp(played.rotations[chosen, bust.joint("left_eye"), 2]) > 0.7
        assert played.rotations[chosen, bust.joint("jaw"), 0].max() > 0.3
        assert played.rotations[chosen, bust.joint("jaw"), 0].min() < 0.02
        shut = played.expressions[chosen, names.index("eyeBlinkLeft")]
        assert (shut.max(), shut.min() < 0.05) == (pytest.approx(1), True)
    for action in {action for face in FACES.values() for action in face} - {"jaw"}:
        for side in ("Left", "Right") if action.endswith("Both") else ("",):
            amount = played.expressions[:, names.index(action.removesuffix("Both") + side)]
            assert amount[~test].max() > 0.2, action
    assert (played.expressions.min(), played.expressions.max()) == (0, 1)
    steps = np.abs(np.diff(yaw)) * HARD.fps
    assert steps.max() < 300, "degrees a second: a fast turn of a head, no jump"


def test_story_starts_again(bust: template.TemplateArrays) -> None:
    twice = wide_performance(bust, 1200, 25.0, 3)
    np.testing.assert_allclose(twice.expressions[:600], twice.expressions[600:], atol=1e-6)
    other = perform("talking_head", bust, 60, 7, 6.0)
    np.testing.assert_array_equal(other.rotations, talking_head(bust, 60, 7).rotations)
    with pytest.raises(BadConfig, match="did you mean 'wide'"):
        perform("wid", bust, 1, 1, 25.0)


def test_later_settings_leave_earlier_digests_alone() -> None:
    earlier = "fc8af53879a9b13b27227dd252b53ff3"
    assert CaptureSettings().digest("x")[:32] == earlier
    for changed in ({"device": "cuda"}, {"performance": "wide"}, {"hair_length": 2.0}, {"hair_melanin": 0.5}):
        assert CaptureSettings(**changed).digest("x")[:32] != earlier
    assert CaptureSettings(test_blocks=3).digest("x")[:32] == earlier


def test_command_line_starts_from_known_settings(tmp_path: object) -> None:
    words = ["--output", str(tmp_path), "--like", "talking_head"]
    assert parse(words)[0] == HARD
    assert parse([*words, "--samples", "4", "--device", "cuda"])[0] == replace(HARD, samples=4, device="cuda")
    with pytest.raises(BadConfig, match="cpu or cuda"):
        parse([*words, "--device", "metal"])


def test_cuda_is_used_or_refused() -> None:
    scene = stage.new_scene("cuda", 16, 1)
    found = ""
    try:
        stage.compute_on_cuda(scene)
    except EnvironmentFailed as error:
        found = str(error)
    assert (scene.cycles.device == "GPU") == (not found)
    assert not found or "CUDA" in found
