"""Make the motions that come with Effigy, by rule: `python -m blender_addon.motions.make_motions [FOLDER]`.

Legs are worked out from where the feet stand (two-bone inverse kinematics), so soles do not slide; arms and trunk are
sums of a few slow waves. Everything is written for the mean adult of the open template; legs' lengths scale it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .._shared import rotations, template
from ..logic import talking
from .limbs import Body, Floats, about, arm, leg

FPS = 30.0
TALK_FPS = 25.0
RELAXED = {"index": 0.28, "middle": 0.34, "ring": 0.38, "pinky": 0.42}
"""How far each joint of a hanging hand's fingers is curled, rad."""


def make_walk() -> dict[str, NDArray[np.generic]]:
    """One cycle of two steps: 1.07 s, 1.34 m."""
    body = Body.of_template()
    frames, stride = 33, 1.34
    phase = np.linspace(0, 1, frames)
    turns = body.at_rest(frames)
    circle = 2 * np.pi * phase
    # Highest over the standing leg (phase 0.3 and 0.8), lowest when both feet are down.
    height = body.leg_m - 0.030 + 0.018 * np.cos(2 * (circle - 0.30 * 2 * np.pi))
    places = np.stack([0.018 * np.sin(circle - 0.05), -stride * phase, height], 1)
    yaw, roll = 0.085 * np.cos(circle), 0.055 * np.sin(circle + 0.25)
    pelvis = about("z", -yaw) @ about("y", roll) @ about("x", np.full(frames, 0.02))
    turns["pelvis"] = pelvis
    chest = about("z", 0.075 * np.cos(circle)) @ about("y", -0.02 * np.sin(circle + 0.25))
    turns["spine1"], turns["spine2"] = about("y", -0.5 * roll), chest
    turns["spine3"] = about("z", 0.045 * np.cos(circle)) @ about("x", np.full(frames, 0.02))
    turns["neck"] = about("z", -0.02 * np.cos(circle)) @ about("x", 0.012 * np.cos(2 * circle))
    turns["head"] = about("z", -0.025 * np.cos(circle)) @ about("x", 0.02 * np.cos(2 * circle + 0.6) - 0.01)
    for side, shift in (("left", 0.0), ("right", 0.5)):
        ankle, pitch = _walking_foot(body, side, (phase + shift) % 1.0, phase, stride)
        leg(body, turns, side, pelvis, places, ankle, pitch)
        swing = np.cos(2 * np.pi * (phase + shift) - 0.15)  # back while its own leg is in front
        side_sign = 1.0 if side == "left" else -1.0
        forward = -0.36 * swing - 0.02
        upper = np.stack([side_sign * (0.19 + 0.03 * np.abs(forward)), -np.sin(forward), -np.cos(forward)], 1)
        bend = 0.40 - 0.22 * swing
        fore = np.stack([side_sign * (0.10 - 0.10 * bend), -np.sin(forward + bend), -np.cos(forward + bend)], 1)
        palm = np.stack([np.full(frames, -side_sign), np.full(frames, 0.35), np.zeros(frames)], 1)
        arm(body, turns, side, upper, fore, palm)
        _relax_fingers(turns, side, frames)
    return body.packed(turns, places, FPS)


def _walking_foot(body: Body, side: str, own: Floats, phase: Floats, stride: float) -> tuple[Floats, Floats]:
    """Ankle [T, 3] m above the floor z = 0 and pitch [T] rad (toes up is positive) of a foot whose own cycle is `own`.

    Own phase 0 is the heel's touch; the foot stands until 0.62 and swings until 1.
    """
    lift = 0.62
    pitch = np.interp(
        own, [0, 0.10, 0.38, 0.52, lift, 0.74, 0.90, 1.0], [0.34, 0.0, 0.0, -0.30, -0.85, -0.45, 0.22, 0.34]
    )
    pitch = _smoothed(pitch, own)
    heel, ball, high = body.heel_back_m, body.ball_front_m, body.ankle_high_m
    # Where the foot is rooted on the floor this cycle, relative to now: touched `own` cycles ago.
    rooted = -stride * (phase - own) - stride * 0.5 * lift
    flat_y = rooted
    turn = about("x", -pitch)
    pivot_back = np.stack([np.zeros_like(own), flat_y + heel, np.zeros_like(own)], 1)
    pivot_front = np.stack([np.zeros_like(own), flat_y - ball, np.zeros_like(own)], 1)
    from_heel = np.einsum("tab,b->ta", turn, np.array([0.0, -heel, high]))
    from_ball = np.einsum("tab,b->ta", turn, np.array([0.0, ball, high]))
    standing = np.where((pitch > 0)[:, None], pivot_back + from_heel, pivot_front + from_ball)
    # In the air: from where it left to where it will touch, over a low arc.
    part = np.clip((own - lift) / (1 - lift), 0, 1)
    leave = _standing_at(lift, -0.85, heel, ball, high)
    touch = _standing_at(1.0, 0.34, heel, ball, high)
    ease = part**2 * (3 - 2 * part)
    start = leave + np.array([0.0, 1.0, 0.0]) * rooted[:, None]
    end = touch + np.array([0.0, 1.0, 0.0]) * (rooted[:, None] - stride)
    air = start * (1 - ease)[:, None] + end * ease[:, None]
    air[:, 2] += 0.045 * np.sin(np.pi * part) ** 1.5
    ankle = np.where((own < lift)[:, None], standing, air)
    ankle[:, 0] = 0.075 if side == "left" else -0.075
    return ankle, pitch


def _standing_at(own: float, pitch: float, heel: float, ball: float, high: float) -> Floats:
    turn = about("x", np.array([-pitch]))[0]
    if pitch > 0:
        return np.array([0.0, heel, 0.0]) + turn @ np.array([0.0, -heel, high])
    return np.array([0.0, -ball, 0.0]) + turn @ np.array([0.0, ball, high])


def _smoothed(values: Floats, own: Floats) -> Floats:
    """A closed curve's corners rounded: the mean over a tenth of a cycle, in its own phase."""
    order = np.argsort(own[:-1], kind="stable")
    grid = np.linspace(0, 1, 201)[:-1]
    curve = np.interp(grid, own[:-1][order], values[:-1][order], period=1.0)
    window = np.hanning(13)
    padded = np.concatenate([curve[-6:], curve, curve[:6]])
    smooth = np.convolve(padded, window / window.sum(), mode="valid")
    return np.interp(own, grid, smooth, period=1.0)


def make_wave() -> dict[str, NDArray[np.generic]]:
    """Standing with the weight shifting a little, the right hand raised, waved three times, lowered: 4 s."""
    body = Body.of_template()
    frames = 121
    seconds = np.arange(frames) / FPS
    up = _ease(seconds, 0.35, 1.05) * (1 - _ease(seconds, 2.9, 3.7))
    breath = 0.012 * np.sin(2 * np.pi * seconds / 3.4)
    sway = 0.012 * np.sin(2 * np.pi * seconds / 4.0 + 0.6)
    turns = body.at_rest(frames)
    places = np.stack([sway + 0.012 * up, np.zeros(frames), np.full(frames, body.leg_m - 0.012) - 0.004 * up], 1)
    pelvis = about("y", 1.2 * sway) @ about("x", np.full(frames, 0.01))
    turns["pelvis"] = pelvis
    turns["spine1"] = about("y", -0.9 * sway - 0.03 * up)
    turns["spine2"] = about("x", -breath) @ about("y", -0.03 * up)
    turns["spine3"] = about("x", breath * 0.5) @ about("z", -0.05 * up)
    turns["neck"] = about("y", 0.05 * up) @ about("x", np.full(frames, 0.03))
    nod = 0.06 * np.exp(-(((seconds - 1.1) / 0.22) ** 2))
    turns["head"] = about("y", 0.06 * up) @ about("x", -0.03 + nod)
    for side in ("left", "right"):
        x = 0.095 if side == "left" else -0.095
        ankle = np.tile([x, 0.0, body.ankle_high_m], (frames, 1))
        toes_out = 0.14 if side == "left" else -0.14
        leg(body, turns, side, pelvis, places, ankle, np.zeros(frames), toes_out)
        _relax_fingers(turns, side, frames)
    hang_upper = np.array([0.16, 0.02, -1.0])
    hang_fore = np.array([0.05, -0.16, -1.0])
    hang_palm = np.array([-1.0, 0.3, 0.0])
    drift = np.stack([0.01 * np.sin(seconds * 1.3), 0.02 * np.sin(seconds * 1.1 + 1), 0 * seconds], 1)
    arm(body, turns, "left", hang_upper + drift, hang_fore + drift, np.tile(hang_palm, (frames, 1)))
    flip = np.array([-1.0, 1.0, 1.0])
    beat = 2 * np.pi * 1.75 * (seconds - 1.0)
    waving = _ease(seconds, 0.9, 1.2) * (1 - _ease(seconds, 2.75, 3.1))
    lean = 0.42 * np.sin(beat) * waving
    raised_upper = np.stack([-0.80 + 0.04 * lean, np.full(frames, -0.38), -0.42 + 0.06 * lean], 1)
    raised_fore = np.stack([-0.22 - np.sin(lean), np.full(frames, -0.22), np.cos(lean)], 1)
    raised_palm = np.tile([0.0, -1.0, -0.1], (frames, 1))
    # On the way the forearm comes up in front of the body, as arms do, instead of out to the side.
    arc = (4 * up * (1 - up))[:, None] * np.array([0.0, -0.55, 0.0])
    u = up[:, None]
    arm(
        body,
        turns,
        "right",
        hang_upper * flip * (1 - u) + raised_upper * u + 0.4 * arc,
        hang_fore * flip * (1 - u) + raised_fore * u + arc,
        hang_palm * flip * (1 - u) + raised_palm * u,
        hand_lean=-0.35 * np.sin(beat - 0.6) * waving,
    )
    for finger, curl in RELAXED.items():
        for n in (1, 2, 3):
            turns[f"right_{finger}{n}"] = about("y", -curl * (1 - 0.85 * up))
    faces = {"mouthSmileLeft": 0.7 * up, "mouthSmileRight": 0.7 * up, "cheekSquintLeft": 0.3 * up}
    faces |= {"cheekSquintRight": 0.3 * up, "browInnerUp": 0.25 * up}
    blink = sum(np.clip(1 - ((seconds - t) / 0.12) ** 2, 0, 1) for t in (0.4, 2.2, 3.6))
    faces |= {"eyeBlinkLeft": blink, "eyeBlinkRight": blink}
    return body.packed(turns, places, FPS, faces)


def make_dance() -> dict[str, NDArray[np.generic]]:
    """A step touch to both sides with bounce, swinging arms and a turning chest: eight beats of half a second."""
    body = Body.of_template()
    beat_frames, beats = 15, 8
    frames = beat_frames * beats + 1
    beat = np.arange(frames) / beat_frames
    turns = body.at_rest(frames)
    half = 2 * np.pi * beat / 4  # out and back in four beats
    side_m = 0.19 * np.sin(half / 2)
    bounce = 0.5 - 0.5 * np.cos(2 * np.pi * beat)  # lowest on the beat's middle
    places = np.stack([side_m, 0.02 * np.sin(half), body.leg_m - 0.035 - 0.045 * bounce], 1)
    tilt = 0.07 * np.sin(half)
    pelvis = about("z", 0.16 * np.sin(half)) @ about("y", tilt) @ about("x", 0.03 + 0.03 * bounce)
    turns["pelvis"] = pelvis
    turns["spine1"] = about("y", -0.7 * tilt) @ about("z", -0.10 * np.sin(half + 0.3))
    turns["spine2"] = about("z", -0.14 * np.sin(half + 0.3)) @ about("x", 0.03 - 0.05 * bounce)
    turns["spine3"] = about("y", -0.06 * np.sin(half + 0.6)) @ about("x", 0.04 * bounce)
    turns["neck"] = about("x", 0.05 + 0.04 * np.cos(2 * np.pi * beat))
    turns["head"] = about("z", 0.10 * np.sin(half + 0.4)) @ about("x", -0.05 + 0.07 * np.cos(2 * np.pi * beat - 0.5))
    for side, sign in (("left", 1.0), ("right", -1.0)):
        ankle, pitch = _stepping_foot(body, sign, beat)
        leg(body, turns, side, pelvis, places, ankle, pitch, 0.16 * sign)
        swing = np.sin(half + (0.0 if side == "left" else np.pi))
        pump = np.cos(2 * np.pi * beat)
        upper = np.stack([sign * (0.34 + 0.10 * pump), -0.28 - 0.34 * swing, np.full(frames, -0.95)], 1)
        fore = np.stack([sign * (-0.10 - 0.12 * swing), -0.85 - 0.10 * pump, 0.34 + 0.30 * swing + 0.16 * pump], 1)
        palm = np.stack([np.full(frames, -sign * 0.8), np.full(frames, 0.2), np.full(frames, -0.6)], 1)
        arm(body, turns, side, upper, fore, palm)
        _relax_fingers(turns, side, frames, 1.9)
    smile = 0.45 + 0.15 * np.sin(half)
    faces = {"mouthSmileLeft": smile, "mouthSmileRight": smile}
    return body.packed(turns, places, FPS, faces)


def _stepping_foot(body: Body, sign: float, beat: Floats) -> tuple[Floats, Floats]:
    """Step touch, to the left in the first four beats, then mirrored: one foot out, the other beside it, back."""
    near, wide, beside = 0.085, 0.30, 0.11
    # (begin, end, from, to) in beats: the foot that steps out first, and the one that follows it.
    leads = ((0.0, 0.75, near, wide), (3.0, 3.75, wide, near))
    follows = ((1.0, 1.75, -near, beside), (2.0, 2.75, beside, -near))
    x, high = np.zeros(len(beat)), np.zeros(len(beat))
    for half in (0, 1):
        side = 1.0 if half == 0 else -1.0  # which way it goes
        own = (beat >= 4 * half) & (beat <= 4 * half + 4)
        at = beat - 4 * half
        steps = leads if side == sign else follows
        place = np.full(len(beat), steps[0][2])
        arc = np.zeros(len(beat))
        for begin, end, start, stop in steps:
            part = np.clip((at - begin) / (end - begin), 0, 1)
            place = np.where(at >= begin, start + (stop - start) * part**2 * (3 - 2 * part), place)
            arc += np.sin(np.pi * part)
        x, high = np.where(own, side * place, x), np.where(own, arc, high)
    pitch = -0.40 * high
    rise = body.ball_front_m * np.sin(-pitch) * 0.8
    ankle = np.stack([x, np.zeros(len(beat)), body.ankle_high_m + 0.055 * high + rise], 1)
    return ankle, pitch


def make_talk() -> dict[str, NDArray[np.generic]]:
    """A talking head that also looks around: ten seconds."""
    human = template.load_template()
    joints = ("neck", "head", "jaw", "left_eye", "right_eye")
    frames = int(10 * TALK_FPS)
    seconds = np.arange(frames) / TALK_FPS
    spoken = talking.performance(joints, human.expression_names, np.zeros((len(joints), 3)), frames, TALK_FPS)
    turns = template.rotation_matrices(spoken.rotations)
    # Glances: the eyes go first, the head follows half of the way and comes back later.
    glances = ((1.9, 1.0, 0.34, -0.02), (4.3, 0.9, -0.40, 0.06), (6.9, 1.2, 0.22, 0.14), (8.6, 0.6, -0.18, -0.06))
    eyes, head = np.zeros((frames, 2)), np.zeros((frames, 2))
    for begin, length, yaw, dip in glances:
        quick = _ease(seconds, begin, begin + 0.10) * (1 - _ease(seconds, begin + length, begin + length + 0.12))
        slow = _ease(seconds, begin + 0.08, begin + 0.55) * (1 - _ease(seconds, begin + length, begin + length + 0.6))
        eyes += np.outer(quick - 0.55 * slow, (yaw, dip))
        head += np.outer(0.55 * slow, (yaw, dip))
    for name, share, of in (
        ("neck", 0.4, head),
        ("head", 0.6, head),
        ("left_eye", 1.0, eyes),
        ("right_eye", 1.0, eyes),
    ):
        row = joints.index(name)
        turns[:, row] = turns[:, row] @ about("z", share * of[:, 0]) @ about("x", share * of[:, 1])
    moving = [i for i in range(len(human.expression_names)) if np.abs(spoken.expressions[:, i]).max() > 1e-4]
    return {
        "rotations": rotations.axis_angles_from_matrices(turns).astype(np.float32),
        "translations": np.zeros((frames, 3), np.float32),
        "expressions": np.asarray(spoken.expressions)[:, moving].astype(np.float32),
        "joint_names": np.array(joints),
        "expression_names": np.array([human.expression_names[i] for i in moving]),
        "fps": np.array(TALK_FPS),
        "root": np.array("none"),
    }


def _relax_fingers(turns: dict[str, Floats], side: str, frames: int, how_much: float = 1.0) -> None:
    sign = 1.0 if side == "left" else -1.0
    for finger, curl in RELAXED.items():
        for n in (1, 2, 3):
            turns[f"{side}_{finger}{n}"] = about("y", np.full(frames, sign * curl * how_much))
    turns[f"{side}_thumb1"] = about("z", np.full(frames, sign * 0.35)) @ about("y", np.full(frames, sign * 0.15))
    turns[f"{side}_thumb3"] = about("z", np.full(frames, sign * 0.25))


def _ease(seconds: Floats, begin: float, end: float) -> Floats:
    """0 before, 1 after, smooth between."""
    part = np.clip((seconds - begin) / (end - begin), 0, 1)
    return part**3 * (part * (6 * part - 15) + 10)


MAKERS: dict[str, Callable[[], dict[str, NDArray[np.generic]]]] = {
    "talk": make_talk,
    "walk": make_walk,
    "wave": make_wave,
    "dance": make_dance,
}


def main(arguments: list[str] | None = None) -> int:
    """Write all of them; the process's exit status."""
    parser = argparse.ArgumentParser(prog="make_motions", description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?", default=Path(__file__).parent)
    folder = parser.parse_args(arguments).folder
    for name, make in MAKERS.items():
        np.savez_compressed(folder / f"{name}.npz", **make())
    return 0


if __name__ == "__main__":
    sys.exit(main())
