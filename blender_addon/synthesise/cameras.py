"""Cameras on an arc around the head or a ring around the body. OpenCV axes (y down); pixel centres at +0.5."""

from __future__ import annotations

import numpy as np

from .surface import Array

DISTANCE_M = 1.1
VIEW_HEIGHT_M = 0.40  # seen at the head's distance: head and hair fill about two thirds of it
WIDEST_YAW_RAD = float(np.radians(65))
PITCHES_RAD = np.radians([6.0, -8.0, 16.0, 0.0])


def look_at(eye: Array, target: Array) -> Array:
    """world_from_camera [4, 4] of an upright camera at `eye` looking at `target` (m, z up)."""
    forward = (target - eye) / np.linalg.norm(target - eye)
    right = np.cross(forward, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    matrix = np.eye(4)
    matrix[:3, :3] = np.stack([right, np.cross(forward, right), forward], axis=1)
    matrix[:3, 3] = eye
    return matrix


def arc_cameras(count: int, target: Array, size_px: int) -> tuple[Array, Array]:
    """K [C, 3, 3] px and world_from_camera [C, 4, 4] of `count` cameras from left to right, denser in front (-y).

    One camera alone looks straight at the face.
    """
    even = np.linspace(-1, 1, count) if count > 1 else np.zeros(1)
    yaws = WIDEST_YAW_RAD * np.sign(even) * np.abs(even) ** 1.35
    poses = []
    for k, yaw in enumerate(yaws):
        pitch = PITCHES_RAD[k % len(PITCHES_RAD)]
        arm = np.array([np.sin(yaw) * np.cos(pitch), -np.cos(yaw) * np.cos(pitch), np.sin(pitch)])
        poses.append(look_at(target + DISTANCE_M * arm, target))
    focal_px = size_px * DISTANCE_M / VIEW_HEIGHT_M
    K = np.array([[focal_px, 0, size_px / 2], [0, focal_px, size_px / 2], [0, 0, 1]])
    return np.tile(K, (count, 1, 1)), np.array(poses)


RING_DISTANCE_M = 3.3
RING_VIEW_HEIGHT_M = 2.7  # seen at the body's distance: raised arms still fit
RING_AIM_M = np.array([0.0, 0.0, 1.12])
RING_PITCHES_RAD = np.radians([4.0, 18.0, -3.0, 10.0])


def ring_cameras(count: int, size_px: int) -> tuple[Array, Array]:
    """K [C, 3, 3] px and world_from_camera [C, 4, 4] of `count` cameras evenly around a person on the floor z = 0.

    The first looks at the face; they go round to the person's left, at changing heights.
    """
    poses = []
    for k in range(count):
        yaw, pitch = 2 * np.pi * k / count, RING_PITCHES_RAD[k % len(RING_PITCHES_RAD)]
        arm = np.array([np.sin(yaw) * np.cos(pitch), -np.cos(yaw) * np.cos(pitch), np.sin(pitch)])
        poses.append(look_at(RING_AIM_M + RING_DISTANCE_M * arm, RING_AIM_M))
    focal_px = size_px * RING_DISTANCE_M / RING_VIEW_HEIGHT_M
    K = np.array([[focal_px, 0, size_px / 2], [0, focal_px, size_px / 2], [0, 0, 1]])
    return np.tile(K, (count, 1, 1)), np.array(poses)
