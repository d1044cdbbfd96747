"""One Triton kernel that makes of posed surfels what is blended: materials, what their probes let through, and normals.

It is `lit_pixels.surface_features` (the reference, plain torch) without a list of pairs, so without waiting for the
device, and with the harmonics read in half precision. CUDA devices only.
"""

from __future__ import annotations

import triton
import triton.language as tl

SURFELS_A_BLOCK, WARPS = 64, 2
NODE_WIDTH = 32
"""Halves a node takes in the packed table: 25 harmonics, then nothing, so that a node is two memory sectors."""


@triton.jit
def harmonic(x, y, z, K: tl.constexpr):
    """The K-th of the 25 real harmonics at unit vectors, as `harmonics.basis5` orders them."""
    xx, yy, zz = x * x, y * y, z * z
    if K == 0:
        found = xx * 0 + 0.28209479177387814
    elif K == 1:
        found = 0.4886025119029199 * y
    elif K == 2:
        found = 0.4886025119029199 * z
    elif K == 3:
        found = 0.4886025119029199 * x
    elif K == 4:
        found = 1.0925484305920792 * x * y
    elif K == 5:
        found = 1.0925484305920792 * y * z
    elif K == 6:
        found = 0.31539156525252005 * (3 * zz - 1)
    elif K == 7:
        found = 1.0925484305920792 * x * z
    elif K == 8:
        found = 0.5462742152960396 * (xx - yy)
    elif K == 9:
        found = 0.5900435899266435 * y * (3 * xx - yy)
    elif K == 10:
        found = 2.890611442640554 * x * y * z
    elif K == 11:
        found = 0.4570457994644658 * y * (5 * zz - 1)
    elif K == 12:
        found = 0.3731763325901154 * z * (5 * zz - 3)
    elif K == 13:
        found = 0.4570457994644658 * x * (5 * zz - 1)
    elif K == 14:
        found = 1.445305721320277 * z * (xx - yy)
    elif K == 15:
        found = 0.5900435899266435 * x * (xx - 3 * yy)
    elif K == 16:
        found = 2.5033429417967046 * x * y * (xx - yy)
    elif K == 17:
        found = 1.7701307697799304 * y * z * (3 * xx - yy)
    elif K == 18:
        found = 0.9461746957575601 * x * y * (7 * zz - 1)
    elif K == 19:
        found = 0.6690465435572892 * y * z * (7 * zz - 3)
    elif K == 20:
        found = 0.10578554691520431 * (35 * zz * zz - 30 * zz + 3)
    elif K == 21:
        found = 0.6690465435572892 * x * z * (7 * zz - 3)
    elif K == 22:
        found = 0.47308734787878004 * (xx - yy) * (7 * zz - 1)
    elif K == 23:
        found = 1.7701307697799304 * x * z * (xx - 3 * yy)
    else:
        found = 0.6258357354491761 * (xx * (xx - 3 * yy) - yy * (3 * xx - yy))
    return found


@triton.jit
def by_band(B0: tl.constexpr, B1: tl.constexpr, B2: tl.constexpr, B3: tl.constexpr, B4: tl.constexpr, K: tl.constexpr):
    """The factor of the band that harmonic K belongs to."""
    if K == 0:
        found = B0
    elif K < 4:
        found = B1
    elif K < 9:
        found = B2
    elif K < 16:
        found = B3
    else:
        found = B4
    return found


@triton.jit
def surface_rows(
    means, normals, albedo, roughness, metallic, albedo_stride, scalar_stride, eyes, axes, lattices, table, lamps,
    out, count, lamp_count,
    PARTS: tl.constexpr, SIDE: tl.constexpr, LAMPS_PADDED: tl.constexpr, LAMPS_WIDE: tl.constexpr, WIDTH: tl.constexpr,
    NODE: tl.constexpr, FADE_M: tl.constexpr, SHIFT: tl.constexpr, HALF_OPEN: tl.constexpr, TURNED: tl.constexpr,
    S1: tl.constexpr, S2: tl.constexpr, S3: tl.constexpr, S4: tl.constexpr,
    C1: tl.constexpr, C2: tl.constexpr, C4: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """out [B, N, WIDTH]: albedo 3, roughness, metallic, ambient, along the reflection, one a lamp, normal 3, zeros.

    axes [B, PARTS, 13]: linear part and shift of canonical_from_world by rows, then its scale; lattices [PARTS, 6]:
    low corner and step, m; table [PARTS SIDE³, NODE] half; lamps [B, PARTS, 25, LAMPS_WIDE] soft harmonics of the
    lamps' directions in the part's axes; LAMPS_PADDED is 0 without lamps, else LAMPS_WIDE; eyes [B, 3].
    """
    frame = tl.program_id(1)
    row = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    live = row < count
    at = (frame * count + row) * 3
    x, y = tl.load(means + at, mask=live, other=0.0), tl.load(means + at + 1, mask=live, other=0.0)
    z = tl.load(means + at + 2, mask=live, other=0.0)
    nx, ny = tl.load(normals + at, mask=live, other=0.0), tl.load(normals + at + 1, mask=live, other=0.0)
    nz = tl.load(normals + at + 2, mask=live, other=1.0)
    ex, ey = tl.load(eyes + frame * 3) - x, tl.load(eyes + frame * 3 + 1) - y
    ez = tl.load(eyes + frame * 3 + 2) - z
    away = tl.maximum(tl.sqrt(ex * ex + ey * ey + ez * ez), 1e-12)
    ex, ey, ez = ex / away, ey / away, ez / away
    cosine = nx * ex + ny * ey + nz * ez
    turn = tl.where(cosine < TURNED, -1.0, 1.0)
    nx, ny, nz, cosine = nx * turn, ny * turn, nz * turn, cosine * turn
    mirror = 2 * tl.maximum(cosine, 0.0)
    rx, ry, rz = mirror * nx - ex, mirror * ny - ey, mirror * nz - ez
    ambient = tl.full([BLOCK], 1.0, tl.float32)
    along = tl.full([BLOCK], 1.0, tl.float32)
    lamp = tl.arange(0, LAMPS_WIDE)
    lit = tl.full([BLOCK, LAMPS_WIDE], 1.0, tl.float32)
    for part in range(PARTS):
        m = axes + (frame * PARTS + part) * 13
        m00, m01, m02, m03 = tl.load(m), tl.load(m + 1), tl.load(m + 2), tl.load(m + 3)
        m10, m11, m12, m13 = tl.load(m + 4), tl.load(m + 5), tl.load(m + 6), tl.load(m + 7)
        m20, m21, m22, m23 = tl.load(m + 8), tl.load(m + 9), tl.load(m + 10), tl.load(m + 11)
        shrink = 1 / tl.load(m + 12)
        lattice = lattices + part * 6
        sx, sy, sz = tl.load(lattice + 3), tl.load(lattice + 4), tl.load(lattice + 5)
        px = m00 * x + m01 * y + m02 * z + m03 - tl.load(lattice)
        py = m10 * x + m11 * y + m12 * z + m13 - tl.load(lattice + 1)
        pz = m20 * x + m21 * y + m22 * z + m23 - tl.load(lattice + 2)
        wide, deep, high = sx * (SIDE - 1), sy * (SIDE - 1), sz * (SIDE - 1)
        bx = tl.maximum(tl.maximum(-px, px - wide), 0.0)
        by = tl.maximum(tl.maximum(-py, py - deep), 0.0)
        bz = tl.maximum(tl.maximum(-pz, pz - high), 0.0)
        beyond = tl.sqrt(bx * bx + by * by + bz * bz)
        near = live & (beyond < FADE_M)
        if tl.max(near.to(tl.int32), axis=0) > 0:
            ax, ay, az = (
                (m00 * nx + m01 * ny + m02 * nz) * shrink,
                (m10 * nx + m11 * ny + m12 * nz) * shrink,
                (m20 * nx + m21 * ny + m22 * nz) * shrink,
            )
            tx, ty, tz = (
                (m00 * rx + m01 * ry + m02 * rz) * shrink,
                (m10 * rx + m11 * ry + m12 * rz) * shrink,
                (m20 * rx + m21 * ry + m22 * rz) * shrink,
            )
            lift = SHIFT * (sx + sy + sz) / 3
            qx = tl.minimum(tl.maximum(px + lift * ax, 0.0), wide)
            qy = tl.minimum(tl.maximum(py + lift * ay, 0.0), deep)
            qz = tl.minimum(tl.maximum(pz + lift * az, 0.0), high)
            gx = tl.minimum(tl.floor(qx / sx), SIDE - 2.0)
            gy = tl.minimum(tl.floor(qy / sy), SIDE - 2.0)
            gz = tl.minimum(tl.floor(qz / sz), SIDE - 2.0)
            ux, uy, uz = qx / sx - gx, qy / sy - gy, qz / sz - gz
            up = tl.zeros([BLOCK], tl.float32)
            seen = tl.zeros([BLOCK], tl.float32)
            shone = tl.zeros([BLOCK, LAMPS_WIDE], tl.float32)
            whole = tl.zeros([BLOCK], tl.float32)
            for corner in range(8):
                i, j, k = corner // 4, (corner // 2) % 2, corner % 2
                weight = tl.where(i == 1, ux, 1 - ux) * tl.where(j == 1, uy, 1 - uy) * tl.where(k == 1, uz, 1 - uz)
                ahead = ((gx + i) * sx - qx) * ax + ((gy + j) * sy - qy) * ay + ((gz + k) * sz - qz) * az
                node = ((part * SIDE + gx.to(tl.int32) + i) * SIDE + gy.to(tl.int32) + j) * SIDE + gz.to(tl.int32) + k
                held = table + node * NODE
                sky = tl.load(held, mask=near, other=0.0).to(tl.float32) * 0.28209479177387814
                share = tl.minimum(tl.maximum(sky / HALF_OPEN, 0.0), 1.0)
                weight = tl.where(near & (ahead > 0), weight * (0.02 + share * share), 0.0)
                whole += weight
                for h in tl.static_range(25):
                    value = weight * tl.load(held + h, mask=near, other=0.0).to(tl.float32)
                    up += value * harmonic(ax, ay, az, h) * by_band(1.0, C1, C2, 0.0, C4, h)
                    seen += value * harmonic(tx, ty, tz, h) * by_band(1.0, S1, S2, S3, S4, h)
                    if LAMPS_PADDED > 0:
                        towards = tl.load(lamps + ((frame * PARTS + part) * 25 + h) * LAMPS_WIDE + lamp)
                        shone += value[:, None] * towards[None, :]
            hides = tl.where(near & (whole > 1e-6), 1 - beyond / FADE_M, 0.0)
            each = 1 / tl.maximum(whole, 1e-6)
            up, seen, shone = up * each, seen * each, shone * each[:, None]
            ambient = ambient * (1 - hides * (1 - tl.minimum(tl.maximum(up, 0.0), 1.0)))
            along = along * (1 - hides * (1 - tl.minimum(tl.maximum(seen, 0.0), 1.0)))
            if LAMPS_PADDED > 0:
                lit = lit * (1 - hides[:, None] * (1 - tl.minimum(tl.maximum(shone, 0.0), 1.0)))
    to = out + (frame * count + row) * WIDTH
    held_albedo = albedo + frame * albedo_stride + row * 3
    for channel in tl.static_range(3):
        tl.store(to + channel, tl.load(held_albedo + channel, mask=live, other=0.0), mask=live)
    tl.store(to + 3, tl.load(roughness + frame * scalar_stride + row, mask=live, other=0.0), mask=live)
    tl.store(to + 4, tl.load(metallic + frame * scalar_stride + row, mask=live, other=0.0), mask=live)
    tl.store(to + 5, ambient, mask=live)
    tl.store(to + 6, along, mask=live)
    if LAMPS_PADDED > 0:
        tl.store(to[:, None] + 7 + lamp[None, :], lit, mask=live[:, None] & (lamp < lamp_count)[None, :])
    tl.store(to + 7 + lamp_count, nx, mask=live)
    tl.store(to + 8 + lamp_count, ny, mask=live)
    tl.store(to + 9 + lamp_count, nz, mask=live)
    for channel in tl.static_range(10, WIDTH):
        tl.store(to + channel, tl.zeros([BLOCK], tl.float32), mask=live & (channel >= 10 + lamp_count))
