"""The compiled CPU kernels of `cpu_express`: blocks of Gaussians, channels outside, so that inner loops are vectors."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from avatars.rendering.jit import helper, kernel

BLOCK = 128
CHANNELS, TINTS = 11, 9
SH0, SH1 = 0.28209479177387814, 0.4886025119029199
SHORTEST = 1e-8


@helper
def _range(worker: int, workers: int, count: int) -> tuple[int, int]:
    """This worker's share of `count` Gaussians, in whole blocks."""
    blocks = (count + BLOCK - 1) // BLOCK
    return blocks * worker // workers * BLOCK, min(blocks * (worker + 1) // workers * BLOCK, count)


@helper
def _turned(w: Any, x: Any, y: Any, z: Any, a: Any, b: Any, c: Any) -> tuple[Any, Any, Any]:
    """A vector turned by a unit quaternion."""
    u, v, t = 2 * (y * c - z * b), 2 * (z * a - x * c), 2 * (x * b - y * a)
    return a + w * u + y * t - z * v, b + w * v + z * u - x * t, c + w * t + x * v - y * u


@kernel
def express_forward(
    worker: int, workers: int, neutral: Any, bases: Any, sh1: Any, sh1_bases: Any, wiggle: Any, said: Any,
    anchor_index: Any, anchor_weight: Any, controls: Any, control_index: Any, control_weight: Any, rest: Any,
    transforms: Any, turns: Any, means: Any, quats: Any, scales: Any, opacities: Any, base: Any, tint: Any, raw: Any,
    canonical: Any, along: Any, wiggle_m: float, active: bool, tinted: bool,
) -> None:  # fmt: skip
    """As the CUDA kernel of that name. said [F, U, >= K]; controls [U, C, 3]; rest [U or 1, 3, N]; along [U, K, N]."""
    batch, count = transforms.shape[0], neutral.shape[1]
    near, basis = anchor_index.shape[1], bases.shape[0]
    begin, end = _range(worker, workers, count)
    own, band = np.empty((CHANNELS, BLOCK), np.float32), np.empty((TINTS, BLOCK), np.float32)
    a = np.empty(BLOCK, np.float32)
    for u in range(batch):
        place = u if rest.shape[0] > 1 else 0
        for start in range(begin, end, BLOCK):
            size = min(BLOCK, end - start)
            for c in range(CHANNELS):
                for i in range(size):
                    own[c, i] = neutral[c, start + i]
            if tinted:
                for c in range(TINTS):
                    for i in range(size):
                        band[c, i] = sh1[c, start + i]
            for k in range(basis if active else 0):
                for i in range(size):
                    total = np.float32(0)
                    for j in range(near):
                        total += anchor_weight[start + i, j] * said[anchor_index[start + i, j], u, k]
                    a[i] = total
                    along[u, k, start + i] = total
                for c in range(CHANNELS):
                    for i in range(size):
                        own[c, i] += a[i] * bases[k, c, start + i]
                if tinted:
                    for c in range(TINTS):
                        for i in range(size):
                            band[c, i] += a[i] * sh1_bases[k, c, start + i]
            for i in range(size):
                n = start + i
                x = rest[place, 0, n] + wiggle_m * math.tanh(wiggle[0, n])
                y = rest[place, 1, n] + wiggle_m * math.tanh(wiggle[1, n])
                z = rest[place, 2, n] + wiggle_m * math.tanh(wiggle[2, n])
                for j in range(near):
                    control, share = control_index[n, j], control_weight[n, j]
                    x += share * controls[u, control, 0]
                    y += share * controls[u, control, 1]
                    z += share * controls[u, control, 2]
                canonical[u, 0, n], canonical[u, 1, n], canonical[u, 2, n] = x, y, z
                for r in range(3):
                    m = 4 * r
                    means[u, n, r] = (
                        transforms[u, m, n] * x + transforms[u, m + 1, n] * y + transforms[u, m + 2, n] * z
                        + transforms[u, m + 3, n]
                    )  # fmt: skip
                qw, qx, qy, qz = own[6, i], own[7, i], own[8, i], own[9, i]
                raw[u, 0, n], raw[u, 1, n], raw[u, 2, n], raw[u, 3, n] = qw, qx, qy, qz
                length = math.sqrt(qw * qw + qx * qx + qy * qy + qz * qz)
                if length > SHORTEST:
                    qw, qx, qy, qz = qw / length, qx / length, qy / length, qz / length
                else:
                    qw, qx, qy, qz = 1.0, 0.0, 0.0, 0.0
                tw, tx, ty, tz = turns[u, 0, n], turns[u, 1, n], turns[u, 2, n], turns[u, 3, n]
                quats[u, n, 0] = tw * qw - tx * qx - ty * qy - tz * qz
                quats[u, n, 1] = tw * qx + tx * qw + ty * qz - tz * qy
                quats[u, n, 2] = tw * qy - tx * qz + ty * qw + tz * qx
                quats[u, n, 3] = tw * qz + tx * qy - ty * qx + tz * qw
                for r in range(3):
                    scales[u, n, r] = math.exp(own[3 + r, i])
                    base[u, n, r] = 0.5 + SH0 * own[r, i]
                opacities[u, n] = 1.0 / (1.0 + math.exp(-own[10, i]))
                if tinted:
                    for r in range(3):
                        p, q, s = SH1 * band[r, i], SH1 * band[3 + r, i], SH1 * band[6 + r, i]
                        vx, vy, vz = _turned(tw, tx, ty, tz, -s, -p, q)
                        tint[u, n, r, 0], tint[u, n, r, 1], tint[u, n, r, 2] = vx, vy, vz


@kernel
def express_backward(
    worker: int, workers: int, bases: Any, sh1_bases: Any, wiggle: Any, transforms: Any, turns: Any, raw: Any,
    canonical: Any, along: Any, scales: Any, opacities: Any, d_means: Any, d_quats: Any, d_scales: Any,
    d_opacities: Any, d_base: Any, d_tint: Any, g_neutral: Any, g_bases: Any, g_sh1: Any, g_sh1_bases: Any,
    g_wiggle: Any, g_along: Any, g_moved: Any, g_transforms: Any, wiggle_m: float, active: bool, tinted: bool,
    refined: bool,
) -> None:  # fmt: skip
    """As the CUDA kernel of that name; the g_* of tables begin as zeros and grow by each pose."""
    batch, count = transforms.shape[0], wiggle.shape[1]
    basis = bases.shape[0]
    begin, end = _range(worker, workers, count)
    due, band = np.empty((CHANNELS, BLOCK), np.float32), np.empty((TINTS, BLOCK), np.float32)
    total = np.empty(BLOCK, np.float32)
    for u in range(batch):
        for start in range(begin, end, BLOCK):
            size = min(BLOCK, end - start)
            for i in range(size):
                n = start + i
                for r in range(3):
                    due[r, i] = SH0 * d_base[u, n, r]
                    due[3 + r, i] = d_scales[u, n, r] * scales[u, n, r]
                o = opacities[u, n]
                due[10, i] = d_opacities[u, n] * o * (1.0 - o)
                tw, tx, ty, tz = turns[u, 0, n], turns[u, 1, n], turns[u, 2, n], turns[u, 3, n]
                gw, gx, gy, gz = d_quats[u, n, 0], d_quats[u, n, 1], d_quats[u, n, 2], d_quats[u, n, 3]
                hw = tw * gw + tx * gx + ty * gy + tz * gz
                hx = tw * gx - tx * gw - ty * gz + tz * gy
                hy = tw * gy + tx * gz - ty * gw - tz * gx
                hz = tw * gz - tx * gy + ty * gx - tz * gw
                qw, qx, qy, qz = raw[u, 0, n], raw[u, 1, n], raw[u, 2, n], raw[u, 3, n]
                length = math.sqrt(qw * qw + qx * qx + qy * qy + qz * qz)
                share = 1.0 / length if length > SHORTEST else 0.0
                qw, qx, qy, qz = qw * share, qx * share, qy * share, qz * share
                dot = hw * qw + hx * qx + hy * qy + hz * qz
                due[6, i], due[7, i] = share * (hw - dot * qw), share * (hx - dot * qx)
                due[8, i], due[9, i] = share * (hy - dot * qy), share * (hz - dot * qz)
                gx, gy, gz = d_means[u, n, 0], d_means[u, n, 1], d_means[u, n, 2]
                for r in range(3):
                    back = transforms[u, r, n] * gx + transforms[u, 4 + r, n] * gy + transforms[u, 8 + r, n] * gz
                    g_moved[n, u, r] = back
                    t = math.tanh(wiggle[r, n])
                    g_wiggle[r, n] += wiggle_m * (1.0 - t * t) * back
                if refined:
                    for r in range(3):
                        g = d_means[u, n, r]
                        for c in range(3):
                            g_transforms[u, 4 * r + c, n] = g * canonical[u, c, n]
                        g_transforms[u, 4 * r + 3, n] = g
                if tinted:
                    for r in range(3):
                        vx, vy, vz = d_tint[u, n, r, 0], d_tint[u, n, r, 1], d_tint[u, n, r, 2]
                        vx, vy, vz = _turned(tw, -tx, -ty, -tz, vx, vy, vz)
                        band[r, i], band[3 + r, i], band[6 + r, i] = -SH1 * vy, SH1 * vz, -SH1 * vx
            for c in range(CHANNELS):
                for i in range(size):
                    g_neutral[c, start + i] += due[c, i]
            if tinted:
                for c in range(TINTS):
                    for i in range(size):
                        g_sh1[c, start + i] += band[c, i]
            for k in range(basis if active else 0):
                for i in range(size):
                    total[i] = 0
                for c in range(CHANNELS):
                    for i in range(size):
                        total[i] += due[c, i] * bases[k, c, start + i]
                        g_bases[k, c, start + i] += along[u, k, start + i] * due[c, i]
                if tinted:
                    for c in range(TINTS):
                        for i in range(size):
                            total[i] += band[c, i] * sh1_bases[k, c, start + i]
                            g_sh1_bases[k, c, start + i] += along[u, k, start + i] * band[c, i]
                for i in range(size):
                    g_along[start + i, u, k] = total[i]


@helper
def _direction(means: Any, positions: Any, u: int, n: int, b: int) -> tuple[Any, Any, Any]:
    x, y, z = means[u, n, 0] - positions[b, 0], means[u, n, 1] - positions[b, 1], means[u, n, 2] - positions[b, 2]
    length = max(math.sqrt(x * x + y * y + z * z), 1e-12)
    return x / length, y / length, z / length


@kernel
def colours_forward(
    worker: int, workers: int, base: Any, tint: Any, means: Any, rows: Any, positions: Any, out: Any, tinted: bool
) -> None:
    """Colours [B, N, 3] of pose rows[b] seen from positions[b], cut at 0."""
    begin, end = _range(worker, workers, base.shape[1])
    for b in range(len(rows)):
        u = rows[b]
        for n in range(begin, end):
            x, y, z = _direction(means, positions, u, n, b)
            for r in range(3):
                value = base[u, n, r]
                if tinted:
                    value += tint[u, n, r, 0] * x + tint[u, n, r, 1] * y + tint[u, n, r, 2] * z
                out[b, n, r] = max(value, 0.0)


@kernel
def colours_backward(
    worker: int, workers: int, means: Any, rows: Any, positions: Any, colours: Any, d_colours: Any, g_base: Any,
    g_tint: Any, tinted: bool,
) -> None:  # fmt: skip
    """What each pose is due of all pictures that show it; g_base and g_tint begin as zeros."""
    begin, end = _range(worker, workers, means.shape[1])
    for b in range(len(rows)):
        u = rows[b]
        for n in range(begin, end):
            x, y, z = _direction(means, positions, u, n, b)
            for r in range(3):
                if colours[b, n, r] > 0:
                    g = d_colours[b, n, r]
                    g_base[u, n, r] += g
                    if tinted:
                        g_tint[u, n, r, 0] += g * x
                        g_tint[u, n, r, 1] += g * y
                        g_tint[u, n, r, 2] += g * z
