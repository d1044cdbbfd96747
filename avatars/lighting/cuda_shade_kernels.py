"""One Triton kernel that lights every pixel of a picture of blended materials. `shading.shade` is the reference."""

from __future__ import annotations

import triton
import triton.language as tl

PIXELS_A_BLOCK, WARPS = 128, 4


@triton.jit
def angle_of(y, x):
    """atan2, to 1e-5 rad; a polynomial on the first octant (Hastings 1955)."""
    across, up = tl.abs(x), tl.abs(y)
    small = tl.minimum(across, up) / tl.maximum(tl.maximum(across, up), 1e-20)
    s = small * small
    found = small * (
        0.99997726
        + s * (-0.33262347 + s * (0.19354346 + s * (-0.11643287 + s * (0.05265332 + s * -0.01172120))))
    )  # fmt: skip
    found = tl.where(up > across, 1.5707963267948966 - found, found)
    found = tl.where(x < 0, 3.141592653589793 - found, found)
    return tl.where(y < 0, -found, found)


@triton.jit
def map_place(x, y, z, rotation_rad):
    """u in 0..1 (wrapped) and v where a direction meets a latitude-longitude map, as `latlong.columns_rows`."""
    flat = x * x + y * y
    pole = flat < 1e-12 * tl.maximum(flat + z * z, 1e-30)
    radius = tl.where(pole, 0.0, tl.sqrt(flat))
    u = 0.5 - (angle_of(tl.where(pole, 0.0, y), tl.where(pole, 1.0, x)) - rotation_rad) * 0.15915494309189535
    return u - tl.floor(u), angle_of(radius, z) * 0.3183098861837907


@triton.jit
def texels(u, v, HEIGHT: tl.constexpr, WIDTH: tl.constexpr):
    """Rows of four texels around a place, [upper left, upper right, lower left, lower right], and its place in them."""
    x, y = u * WIDTH - 0.5, v * HEIGHT - 0.5
    left, top = tl.floor(x), tl.floor(y)
    across, down = x - left, y - top
    column, row = left.to(tl.int32), top.to(tl.int32)
    over = tl.where(row < 0, WIDTH // 2, 0)
    under = tl.where(row + 1 >= HEIGHT, WIDTH // 2, 0)
    upper, lower = tl.maximum(row, 0) * WIDTH, tl.minimum(row + 1, HEIGHT - 1) * WIDTH
    a, b = upper + (column + over + WIDTH) % WIDTH, upper + (column + over + 1 + WIDTH) % WIDTH
    c, d = lower + (column + under + WIDTH) % WIDTH, lower + (column + under + 1 + WIDTH) % WIDTH
    return a, b, c, d, across, down


@triton.jit
def mixed(base, a, b, c, d, across, down, live, STRIDE: tl.constexpr):
    """The bilinear value of one channel."""
    upper = tl.load(base + a * STRIDE, mask=live, other=0.0) * (1 - across)
    upper += tl.load(base + b * STRIDE, mask=live, other=0.0) * across
    lower = tl.load(base + c * STRIDE, mask=live, other=0.0) * (1 - across)
    lower += tl.load(base + d * STRIDE, mask=live, other=0.0) * across
    return upper * (1 - down) + lower * down


@triton.jit
def unit_range(value):
    """Kept in 0..1."""
    return tl.minimum(tl.maximum(value, 0.0), 1.0)


@triton.jit
def lobe(nv, nl, nh, alpha, GRAZING: tl.constexpr):
    """GGX times Smith's visibility at cosines to the eye, the light and the half vector."""
    squared = alpha * alpha
    c2 = unit_range(nh) * unit_range(nh)
    spread = (1 - c2) + c2 * squared
    shape = squared / (3.141592653589793 * spread * spread)
    nv, nl = tl.maximum(nv, GRAZING), tl.maximum(nl, GRAZING)
    masked = nl * tl.sqrt(nv * nv * (1 - squared) + squared) + nv * tl.sqrt(nl * nl * (1 - squared) + squared)
    return shape * 0.5 / tl.maximum(masked, 1e-7)


@triton.jit
def shade_rows(
    features, alphas, K, camera, turn, specular, diffuse, table, lights, rotation_rad, strength, out,
    feature_stride, frame_stride, alpha_stride, pixels, width_px,
    ORTHOGRAPHIC: tl.constexpr, LAMPS: tl.constexpr, SURFACE: tl.constexpr, NORMAL: tl.constexpr,
    HEIGHT: tl.constexpr, DIFFUSE_HEIGHT: tl.constexpr, SIDE: tl.constexpr, GRAZING: tl.constexpr,
    SMOOTHEST: tl.constexpr, F0: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """out [B, pixels, 6]: diffuse and specular linear radiance times cover, of blended features [B, pixels, C].

    The features from SURFACE on are those of `cuda_surface.surface_rows` but for the normal, which begins at NORMAL.
    K [B, 3, 3] and camera [B, 4, 4]; turn [3, 3]: directions are multiplied by it before they meet the light.
    """
    frame = tl.program_id(1)
    pixel = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    live = pixel < pixels
    cover = tl.load(alphas + frame * alpha_stride + pixel, mask=live, other=0.0)
    to = out + (frame * pixels + pixel) * 6
    shown = live & (cover > 0)
    if tl.max(shown.to(tl.int32), axis=0) == 0:
        for channel in tl.static_range(6):
            tl.store(to + channel, tl.zeros([BLOCK], tl.float32), mask=live)
    else:
        each = 1 / tl.maximum(cover, 1e-6)
        at = features + frame * frame_stride + pixel * feature_stride
        red = unit_range(tl.load(at + SURFACE, mask=shown, other=0.0) * each)
        green = unit_range(tl.load(at + SURFACE + 1, mask=shown, other=0.0) * each)
        blue = unit_range(tl.load(at + SURFACE + 2, mask=shown, other=0.0) * each)
        rough = unit_range(tl.load(at + SURFACE + 3, mask=shown, other=0.0) * each)
        metal = unit_range(tl.load(at + SURFACE + 4, mask=shown, other=0.0) * each)
        ambient = unit_range(tl.load(at + SURFACE + 5, mask=shown, other=0.0) * each)
        along = unit_range(tl.load(at + SURFACE + 6, mask=shown, other=0.0) * each)
        wx = tl.load(at + NORMAL, mask=shown, other=0.0) * each
        wy = tl.load(at + NORMAL + 1, mask=shown, other=0.0) * each
        wz = tl.load(at + NORMAL + 2, mask=shown, other=0.0) * each
        lens, pose = K + frame * 9, camera + frame * 16
        column, row = (pixel % width_px).to(tl.float32), (pixel // width_px).to(tl.float32)
        dx = (column + 0.5 - tl.load(lens + 2)) / tl.load(lens)
        dy = (row + 0.5 - tl.load(lens + 5)) / tl.load(lens + 4)
        if ORTHOGRAPHIC:
            dx, dy = dx * 0, dy * 0
        length = 1 / tl.sqrt(dx * dx + dy * dy + 1)
        ax = (dx * tl.load(pose) + dy * tl.load(pose + 4) + tl.load(pose + 8)) * length
        ay = (dx * tl.load(pose + 1) + dy * tl.load(pose + 5) + tl.load(pose + 9)) * length
        az = (dx * tl.load(pose + 2) + dy * tl.load(pose + 6) + tl.load(pose + 10)) * length
        hidden = tl.maximum(wx * ax + wy * ay + wz * az, 0.0)  # what points away cannot be seen
        wx, wy, wz = wx - hidden * ax, wy - hidden * ay, wz - hidden * az
        t00, t01, t02 = tl.load(turn), tl.load(turn + 1), tl.load(turn + 2)
        t10, t11, t12 = tl.load(turn + 3), tl.load(turn + 4), tl.load(turn + 5)
        t20, t21, t22 = tl.load(turn + 6), tl.load(turn + 7), tl.load(turn + 8)
        nx, ny = wx * t00 + wy * t10 + wz * t20, wx * t01 + wy * t11 + wz * t21
        nz = wx * t02 + wy * t12 + wz * t22
        size = 1 / tl.maximum(tl.sqrt(nx * nx + ny * ny + nz * nz), 1e-12)
        nx, ny, nz = nx * size, ny * size, nz * size
        ex, ey = -(ax * t00 + ay * t10 + az * t20), -(ax * t01 + ay * t11 + az * t21)
        ez = -(ax * t02 + ay * t12 + az * t22)
        cosine = nx * ex + ny * ey + nz * ez
        nv = tl.minimum(tl.maximum(cosine, GRAZING), 1.0)
        mirror = 2 * tl.maximum(cosine, 0.0)
        rx, ry, rz = mirror * nx - ex, mirror * ny - ey, mirror * nz - ez
        f0 = F0 * (1 - metal)
        f_red, f_green, f_blue = f0 + red * metal, f0 + green * metal, f0 + blue * metal
        # The split sum's table.
        tx, ty = tl.sqrt(nv) * (SIDE - 1), rough * (SIDE - 1)
        left, top = tl.minimum(tl.floor(tx), SIDE - 2.0), tl.minimum(tl.floor(ty), SIDE - 2.0)
        here = top.to(tl.int32) * SIDE + left.to(tl.int32)
        scale = mixed(table, here, here + 1, here + SIDE, here + SIDE + 1, tx - left, ty - top, shown, 2)
        bias = mixed(table + 1, here, here + 1, here + SIDE, here + SIDE + 1, tx - left, ty - top, shown, 2)
        # The filtered maps: two roughnesses around this one, and the one for diffuse surfaces.
        level = tl.where(rough < 0.5, rough * 10, 5 + (rough - 0.5) * 8)
        low = tl.minimum(tl.floor(level), 8.0)
        between = level - low
        u, v = map_place(rx, ry, rz, rotation_rad)
        a, b, c, d, across, down = texels(u, v, HEIGHT, 2 * HEIGHT)
        sharp = specular + low.to(tl.int32) * (HEIGHT * 2 * HEIGHT * 3)
        soft = sharp + HEIGHT * 2 * HEIGHT * 3
        gain = strength * along * (1 - between)
        more = strength * along * between
        s_red = gain * mixed(sharp, a, b, c, d, across, down, shown, 3)
        s_red += more * mixed(soft, a, b, c, d, across, down, shown, 3)
        s_green = gain * mixed(sharp + 1, a, b, c, d, across, down, shown, 3)
        s_green += more * mixed(soft + 1, a, b, c, d, across, down, shown, 3)
        s_blue = gain * mixed(sharp + 2, a, b, c, d, across, down, shown, 3)
        s_blue += more * mixed(soft + 2, a, b, c, d, across, down, shown, 3)
        s_red, s_green = s_red * (f_red * scale + bias), s_green * (f_green * scale + bias)
        s_blue = s_blue * (f_blue * scale + bias)
        u, v = map_place(nx, ny, nz, rotation_rad)
        a, b, c, d, across, down = texels(u, v, DIFFUSE_HEIGHT, 2 * DIFFUSE_HEIGHT)
        open_sky = strength * ambient
        d_red = open_sky * mixed(diffuse, a, b, c, d, across, down, shown, 3)
        d_green = open_sky * mixed(diffuse + 1, a, b, c, d, across, down, shown, 3)
        d_blue = open_sky * mixed(diffuse + 2, a, b, c, d, across, down, shown, 3)
        for lamp in tl.static_range(LAMPS):
            of = lights + lamp * 7
            lx, ly, lz = tl.load(of), tl.load(of + 1), tl.load(of + 2)
            reach = unit_range(tl.load(at + SURFACE + 7 + lamp, mask=shown, other=0.0) * each)
            wide = tl.load(of + 6) * 0.5
            held = tl.maximum(rough, SMOOTHEST)
            spread = tl.minimum(tl.sqrt(held * held * held * held + wide * wide), 1.0)
            nl = nx * lx + ny * ly + nz * lz
            hx, hy, hz = ex + lx, ey + ly, ez + lz
            bend = 1 / tl.maximum(tl.sqrt(hx * hx + hy * hy + hz * hz), 1e-12)
            nh, vh = (nx * hx + ny * hy + nz * hz) * bend, (ex * hx + ey * hy + ez * hz) * bend
            rest = 1 - unit_range(vh)
            fade = rest * rest * rest * rest * rest
            shine = tl.where((nl > 0) & (cosine > 0), lobe(cosine, nl, nh, spread, GRAZING) * nl, 0.0) * reach
            falls = tl.maximum(nl, 0.0) * reach * 0.3183098861837907
            i_red, i_green, i_blue = tl.load(of + 3), tl.load(of + 4), tl.load(of + 5)
            s_red += (f_red + (1 - f_red) * fade) * shine * i_red
            s_green += (f_green + (1 - f_green) * fade) * shine * i_green
            s_blue += (f_blue + (1 - f_blue) * fade) * shine * i_blue
            d_red, d_green, d_blue = d_red + falls * i_red, d_green + falls * i_green, d_blue + falls * i_blue
        body = (1 - metal) * cover
        tl.store(to, red * body * d_red, mask=live)
        tl.store(to + 1, green * body * d_green, mask=live)
        tl.store(to + 2, blue * body * d_blue, mask=live)
        tl.store(to + 3, s_red * cover, mask=live)
        tl.store(to + 4, s_green * cover, mask=live)
        tl.store(to + 5, s_blue * cover, mask=live)
