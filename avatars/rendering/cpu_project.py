"""Compiled projection of Gaussians onto the image, forwards and backwards (EWA; see reference.py for the plain form).

Scalar arithmetic is float64: it is a small part of the time and keeps thin Gaussians accurate.
"""

from __future__ import annotations

import math
from typing import Any

from avatars.rendering.constants import ALPHA_FLOOR, BLUR_PX2, SHARP_EPSILON, TANGENT_MARGIN
from avatars.rendering.jit import helper, kernel

# Columns of the table of projected Gaussians, float32 [B * N, SPLAT_COLUMNS].
SPLAT_COLUMNS = 12
X, Y, CONIC_XX, CONIC_XY, CONIC_YY, OPACITY, DEPTH, SLOPE, VARIANCE_X, VARIANCE_Y, REACH, SHARP = range(SPLAT_COLUMNS)
# Columns of the gradient of one (Gaussian, tile) pair; features follow. The order of the first seven is the splat's.
PAIR_COLUMNS = 7


@helper
def reach_squared(opacity: Any) -> Any:
    """Squared Mahalanobis distance at which alpha falls to the floor, with a margin for rounding."""
    return 2.0 * math.log(opacity / ALPHA_FLOOR) * 1.0001 + 1e-3


@helper
def outline(splat: Any) -> Any:
    """The ellipse where alpha reaches the floor: centre, half width, dx of its top, slope, 1 / conic_yy, reach.

    Read from the stored float32 row, so that counting tiles and listing them agree exactly. Over dx the top of the
    ellipse is slope * dx + sqrt(...), concave and highest at `peak`; the bottom mirrors it.
    """
    reach, variance_x, slope = float(splat[REACH]), float(splat[VARIANCE_X]), float(splat[SLOPE])
    half = math.sqrt(reach * variance_x)
    peak = slope * variance_x * math.sqrt(reach / float(splat[VARIANCE_Y]))
    residual = 1.0 / float(splat[CONIC_YY])
    return float(splat[X]), float(splat[Y]), half, peak, slope, residual, 1.0 / variance_x, reach


@helper
def _within(value: Any, size: Any) -> Any:
    """As an integer in 0..size; clamped before the conversion, which is undefined for huge numbers."""
    return int(min(max(value, 0.0), float(size)))


@helper
def column_rows(ellipse: Any, left: Any, right: Any, height: Any) -> Any:
    """First row and one past the last whose pixel centres in columns [left, right) the ellipse can touch."""
    mean_x, mean_y, half, peak, slope, residual, inverse_variance, reach = ellipse
    low, high = max(left + 0.5 - mean_x, -half), min(right - 0.5 - mean_x, half)
    if low > high:
        return 0, 0
    at = min(max(peak, low), high)
    top = slope * at + math.sqrt(max(0.0, residual * (reach - at * at * inverse_variance)))
    at = min(max(-peak, low), high)
    bottom = slope * at - math.sqrt(max(0.0, residual * (reach - at * at * inverse_variance)))
    first = math.ceil(mean_y + bottom - 0.51)
    last = math.floor(mean_y + top - 0.49)
    return _within(first, height), _within(last + 1.0, height)


@helper
def column_range(ellipse: Any, tile_width: Any, tiles_x: Any) -> Any:
    """First tile column and one past the last that the ellipse can touch."""
    mean_x, half = ellipse[0], ellipse[2]
    first = math.floor((mean_x - half - 0.5) / tile_width)
    last = math.floor((mean_x + half + 0.5) / tile_width)
    return _within(first, tiles_x), _within(last + 1.0, tiles_x)


@helper
def rotation_entries(w: Any, x: Any, y: Any, z: Any) -> Any:
    """The nine entries, row by row, of the rotation of a unit quaternion."""
    return (
        1 - 2 * (y * y + z * z),
        2 * (x * y - w * z),
        2 * (x * z + w * y),
        2 * (x * y + w * z),
        1 - 2 * (x * x + z * z),
        2 * (y * z - w * x),
        2 * (x * z - w * y),
        2 * (y * z + w * x),
        1 - 2 * (x * x + y * y),
    )


@helper
def tangent_limits(K: Any, width: Any, height: Any) -> Any:
    """Between which tangents x/z and y/z the Jacobian follows a Gaussian: low x, high x, low y, high y."""
    fx, fy, cx, cy = float(K[0, 0]), float(K[1, 1]), float(K[0, 2]), float(K[1, 2])
    margin_x, margin_y = TANGENT_MARGIN * width / fx, TANGENT_MARGIN * height / fy
    return -(cx / fx + margin_x), (width - cx) / fx + margin_x, -(cy / fy + margin_y), (height - cy) / fy + margin_y


@kernel
def project(
    worker: int,
    workers: int,
    means: Any,
    quats: Any,
    scales: Any,
    opacities: Any,
    features: Any,
    K: Any,
    camera_from_world: Any,
    width: int,
    height: int,
    near: float,
    orthographic: bool,
    sharp: bool,
    tile_width: int,
    tile_height: int,
    splats: Any,
    pairs: Any,
) -> None:
    """Fill splats [B * N, SPLAT_COLUMNS] and pairs [B * N] (how many tiles each touches; 0 = not drawn)."""
    frames, count = means.shape[:2]
    tiles_x = (width + tile_width - 1) // tile_width
    for index in range(worker * frames * count // workers, (worker + 1) * frames * count // workers):
        frame, item = index // count, index % count
        pairs[index] = 0
        pose, lens = camera_from_world[frame], K[frame]
        qw, qx = float(quats[frame, item, 0]), float(quats[frame, item, 1])
        qy, qz = float(quats[frame, item, 2]), float(quats[frame, item, 3])
        px, py, pz = float(means[frame, item, 0]), float(means[frame, item, 1]), float(means[frame, item, 2])
        sx, sy, sz = float(scales[frame, item, 0]), float(scales[frame, item, 1]), float(scales[frame, item, 2])
        opacity = float(opacities[frame, item])
        norm = math.sqrt(qw * qw + qx * qx + qy * qy + qz * qz)
        checked = px + py + pz + sx + sy + sz + opacity + norm
        for channel in range(features.shape[2]):
            checked += features[frame, item, channel]
        if not (math.isfinite(checked) and norm > 0 and opacity >= ALPHA_FLOOR):
            continue
        z = pose[2, 0] * px + pose[2, 1] * py + pose[2, 2] * pz + pose[2, 3]
        if z < near:
            continue
        x = pose[0, 0] * px + pose[0, 1] * py + pose[0, 2] * pz + pose[0, 3]
        y = pose[1, 0] * px + pose[1, 1] * py + pose[1, 2] * pz + pose[1, 3]
        fx, fy = float(lens[0, 0]), float(lens[1, 1])
        low_x, high_x, low_y, high_y = tangent_limits(lens, width, height)
        tx, ty = min(max(x / z, low_x), high_x), min(max(y / z, low_y), high_y)
        r = rotation_entries(qw / norm, qx / norm, qy / norm, qz / norm)
        xx, xy, yy = BLUR_PX2, 0.0, BLUR_PX2
        for axis in range(3):
            scale = sx if axis == 0 else (sy if axis == 1 else sz)
            ax, ay, az = r[axis] * scale, r[3 + axis] * scale, r[6 + axis] * scale
            vx = pose[0, 0] * ax + pose[0, 1] * ay + pose[0, 2] * az
            vy = pose[1, 0] * ax + pose[1, 1] * ay + pose[1, 2] * az
            vz = pose[2, 0] * ax + pose[2, 1] * ay + pose[2, 2] * az
            u, v = fx / z * (vx - tx * vz), fy / z * (vy - ty * vz)
            if orthographic:  # rays are parallel: nothing shrinks with depth
                u, v = fx * vx, fy * vy
            xx += u * u
            xy += u * v
            yy += v * v
        determinant = xx * yy - xy * xy
        if not (determinant > 0 and math.isfinite(determinant)):
            continue
        share = 1.0
        if sharp:  # of the opacity, so that blurring adds nothing to what is covered
            unblurred = (xx - BLUR_PX2) * (yy - BLUR_PX2) - xy * xy
            share = math.sqrt(max(0.0, unblurred / determinant) + SHARP_EPSILON * SHARP_EPSILON) - SHARP_EPSILON
            opacity = opacity * share
            if opacity < ALPHA_FLOOR:
                continue
        splat = splats[index]
        splat[SHARP] = share
        splat[X] = fx * x / z + lens[0, 2]
        splat[Y] = fy * y / z + lens[1, 2]
        if orthographic:
            splat[X], splat[Y] = fx * x + lens[0, 2], fy * y + lens[1, 2]
        splat[CONIC_XX] = yy / determinant
        splat[CONIC_XY] = -xy / determinant
        splat[CONIC_YY] = xx / determinant
        splat[OPACITY] = opacity
        splat[DEPTH] = z
        splat[SLOPE] = xy / xx
        splat[VARIANCE_X] = xx
        splat[VARIANCE_Y] = yy
        splat[REACH] = reach_squared(opacity)
        ellipse = outline(splat)
        first, last = column_range(ellipse, tile_width, tiles_x)
        touched = 0
        for column in range(first, last):
            low, high = column_rows(ellipse, column * tile_width, (column + 1) * tile_width, height)
            if high > low:
                touched += (high - 1) // tile_height - low // tile_height + 1
        pairs[index] = touched


@kernel
def project_backward(
    worker: int,
    workers: int,
    means: Any,
    quats: Any,
    scales: Any,
    K: Any,
    camera_from_world: Any,
    width: int,
    height: int,
    orthographic: bool,
    sharp: bool,
    splats: Any,
    first_pair: Any,
    pair_gradients: Any,
    means_out: Any,
    quats_out: Any,
    scales_out: Any,
    opacities_out: Any,
    features_out: Any,
) -> None:
    """Sum each Gaussian's pair gradients in their fixed order and take them back to its parameters (outputs zeroed)."""
    frames, count = means.shape[:2]
    for index in range(worker * frames * count // workers, (worker + 1) * frames * count // workers):
        start, stop = first_pair[index], first_pair[index + 1]
        if start == stop:
            continue
        frame, item = index // count, index % count
        gx = gy = gxx = gxy = gyy = go = gz = 0.0
        for pair in range(start, stop):
            row = pair_gradients[pair]
            gx += row[X]
            gy += row[Y]
            gxx += row[CONIC_XX]
            gxy += row[CONIC_XY]
            gyy += row[CONIC_YY]
            go += row[OPACITY]
            gz += row[DEPTH]
            for channel in range(features_out.shape[2]):
                features_out[frame, item, channel] += row[PAIR_COLUMNS + channel]
        share = float(splats[index, SHARP])
        opacities_out[frame, item] = go * share
        pose, lens = camera_from_world[frame], K[frame]
        fx, fy = float(lens[0, 0]), float(lens[1, 1])
        px, py, pz = float(means[frame, item, 0]), float(means[frame, item, 1]), float(means[frame, item, 2])
        x = pose[0, 0] * px + pose[0, 1] * py + pose[0, 2] * pz + pose[0, 3]
        y = pose[1, 0] * px + pose[1, 1] * py + pose[1, 2] * pz + pose[1, 3]
        z = pose[2, 0] * px + pose[2, 1] * py + pose[2, 2] * pz + pose[2, 3]
        low_x, high_x, low_y, high_y = tangent_limits(lens, width, height)
        over, tx, ty = z, min(max(x / z, low_x), high_x), min(max(y / z, low_y), high_y)
        if orthographic:  # rays are parallel: nothing shrinks with depth
            over, tx, ty = 1.0, 0.0, 0.0
        # covariance: dL/dSigma = -M G M, M the conic and G its symmetric gradient
        splat = splats[index]
        a, b, c = float(splat[CONIC_XX]), float(splat[CONIC_XY]), float(splat[CONIC_YY])
        g = 0.5 * gxy
        ax, ay, bx, by = a * gxx + b * g, a * g + b * gyy, b * gxx + c * g, b * g + c * gyy
        sxx, sxy, syy = -(ax * a + ay * b), -(ax * b + ay * c), -(bx * b + by * c)
        if sharp:  # share^2 = |Sigma| / |Sigma + blur|; of its slope the adjugates remain
            slope = go * float(splat[OPACITY]) / share * 0.5 / (share + SHARP_EPSILON)
            rest, less = 1.0 - share * share, BLUR_PX2 * (a * c - b * b)
            sxx += slope * (rest * a - less)
            sxy += slope * rest * b
            syy += slope * (rest * c - less)
        # the two rows of P = J R: what one unit along each world axis moves on screen
        p0x, p0y = fx / over * (pose[0, 0] - tx * pose[2, 0]), fx / over * (pose[0, 1] - tx * pose[2, 1])
        p0z, p1x = fx / over * (pose[0, 2] - tx * pose[2, 2]), fy / over * (pose[1, 0] - ty * pose[2, 0])
        p1y, p1z = fy / over * (pose[1, 1] - ty * pose[2, 1]), fy / over * (pose[1, 2] - ty * pose[2, 2])
        qw, qx = float(quats[frame, item, 0]), float(quats[frame, item, 1])
        qy, qz = float(quats[frame, item, 2]), float(quats[frame, item, 3])
        norm = math.sqrt(qw * qw + qx * qx + qy * qy + qz * qz)
        w, i, j, k = qw / norm, qx / norm, qy / norm, qz / norm
        r = rotation_entries(w, i, j, k)
        v0x = v0y = v0z = v1x = v1y = v1z = 0.0  # gradient of P
        dw = di = dj = dk = 0.0
        for axis in range(3):
            scale = float(scales[frame, item, axis])
            rx, ry, rz = r[axis], r[3 + axis], r[6 + axis]
            hu = scale * (p0x * rx + p0y * ry + p0z * rz)
            hv = scale * (p1x * rx + p1y * ry + p1z * rz)
            du, dv = 2 * (sxx * hu + sxy * hv), 2 * (sxy * hu + syy * hv)
            v0x += du * rx * scale
            v0y += du * ry * scale
            v0z += du * rz * scale
            v1x += dv * rx * scale
            v1y += dv * ry * scale
            v1z += dv * rz * scale
            ex, ey, ez = p0x * du + p1x * dv, p0y * du + p1y * dv, p0z * du + p1z * dv  # gradient of the scaled axis
            scales_out[frame, item, axis] = ex * rx + ey * ry + ez * rz
            ex, ey, ez = ex * scale, ey * scale, ez * scale
            if axis == 0:
                dw += 2 * (k * ey - j * ez)
                di += 2 * (j * ey + k * ez)
                dj += 2 * (-2 * j * ex + i * ey - w * ez)
                dk += 2 * (-2 * k * ex + w * ey + i * ez)
            elif axis == 1:
                dw += 2 * (-k * ex + i * ez)
                di += 2 * (j * ex - 2 * i * ey + w * ez)
                dj += 2 * (i * ex + k * ez)
                dk += 2 * (-w * ex - 2 * k * ey + j * ez)
            else:
                dw += 2 * (j * ex - i * ey)
                di += 2 * (k * ex - w * ey - 2 * i * ez)
                dj += 2 * (w * ex + k * ey - 2 * j * ez)
                dk += 2 * (i * ex + j * ey)
        along = dw * w + di * i + dj * j + dk * k
        quats_out[frame, item, 0] = (dw - along * w) / norm
        quats_out[frame, item, 1] = (di - along * i) / norm
        quats_out[frame, item, 2] = (dj - along * j) / norm
        quats_out[frame, item, 3] = (dk - along * k) / norm
        # P's gradient to the Jacobian's four entries, then to the mean in camera space
        j00 = v0x * pose[0, 0] + v0y * pose[0, 1] + v0z * pose[0, 2]
        j02 = v0x * pose[2, 0] + v0y * pose[2, 1] + v0z * pose[2, 2]
        j11 = v1x * pose[1, 0] + v1y * pose[1, 1] + v1z * pose[1, 2]
        j12 = v1x * pose[2, 0] + v1y * pose[2, 1] + v1z * pose[2, 2]
        dx, dy = fx / over * gx, fy / over * gy
        dz = gz
        if not orthographic:
            dz -= (fx * x * gx + fy * y * gy + fx * j00 + fy * j11 - fx * tx * j02 - fy * ty * j12) / (z * z)
            if low_x <= x / z <= high_x:
                dx -= fx / (z * z) * j02
                dz += fx * x / (z * z * z) * j02
            if low_y <= y / z <= high_y:
                dy -= fy / (z * z) * j12
                dz += fy * y / (z * z * z) * j12
        for axis in range(3):
            means_out[frame, item, axis] = pose[0, axis] * dx + pose[1, axis] * dy + pose[2, axis] * dz
