"""The two shaders of the 3D views: a picture as it is, and one moved to the present view by its own depth.

Both unpack shared.packed exactly (whole numbers from texelFetch; the result is the numpy reference's) and place each
pixel in the present view, so that the scene's depth hides what is behind. Row 0 of a picture is its top. Pictures are
cut to what holds something: `lens` has its centre counted from the cut, `place` is the cut in clip space.
"""

from __future__ import annotations

import functools
from typing import Any

import gpu
import numpy as np
from gpu_extras.batch import batch_for_shader

from .. import compat

GRID = (192, 108)
"""Cells of the net that moves a late picture."""

_UNPACK = """
vec4 texel_colour(ivec2 at, out float depth) {
  ivec2 size = textureSize(texels, 0);
  ivec2 inside = clamp(at, ivec2(0), size - 1);
  uvec2 whole = uvec2(texelFetch(texels, ivec2(inside.x, size.y - 1 - inside.y), 0).rg);
  float cover = float(whole.y & 255u) / 255.0;
  depth = range.x * exp(range.y * float(whole.y >> 8u) / 65535.0);
  vec3 encoded = vec3(float(whole.x & 255u), float((whole.x >> 8u) & 255u), float(whole.x >> 16u)) / 255.0;
  vec3 linear = mix(encoded / 12.92, pow((encoded + 0.055) / 1.055, vec3(2.4)), step(vec3(0.04045), encoded));
  return vec4(linear * cover, cover);
}
vec4 clip_of(vec2 uv, float depth) {
  vec2 size = vec2(textureSize(texels, 0));
  vec2 pixel = vec2(uv.x, 1.0 - uv.y) * size;
  float spread = range.z > 0.5 ? 1.0 : depth;
  vec2 across = (pixel - lens.zw) / lens.xy * spread;
  return clip_from_picture * vec4(across.x, -across.y, -depth, 1.0);
}
"""

_FRAGMENT = (
    _UNPACK
    + """
vec3 display(vec3 linear) {
  vec3 curve = 1.055 * pow(max(linear, vec3(0.0)), vec3(1.0 / 2.4)) - 0.055;
  return mix(linear * 12.92, curve, step(vec3(0.0031308), linear));
}
void main() {
  vec2 size = vec2(textureSize(texels, 0));
  float depth;
  vec4 colour;
  if (mode.x > 0.5) {
    /* between the four nearest texels, for pictures smaller than the view; the depth is that of the nearest in front */
    vec2 at = uv * size - 0.5;
    ivec2 corner = ivec2(floor(at));
    vec2 part = at - floor(at);
    colour = vec4(0.0);
    depth = 1e30;
    for (int i = 0; i < 4; i++) {
      ivec2 step_to = ivec2(i & 1, i >> 1);
      float here;
      vec4 one = texel_colour(corner + step_to, here);
      float share = (step_to.x == 1 ? part.x : 1.0 - part.x) * (step_to.y == 1 ? part.y : 1.0 - part.y);
      colour += share * one;
      if (one.a > 0.0 && share > 0.0) { depth = min(depth, here); }
    }
  } else {
    colour = texel_colour(ivec2(floor(uv * size)), depth);
  }
  /* Faint rims of a folded net would hide what lies behind them; torn cells are left out. */
  if (colour.a <= mode.w || whole_cell < 0.999) { discard; }
  vec4 clip = clip_of(uv, depth);
  gl_FragDepth = clamp(clip.z / clip.w * 0.5 + 0.5, 0.0, 1.0);
  colour.rgb *= mode.z;
  if (mode.y > 0.5) { colour.rgb = display(colour.rgb / colour.a) * colour.a; }
  frag = colour * range.w;
}
"""
)

_AS_IT_IS = """
void main() {
  uv = pos;
  whole_cell = 1.0;
  gl_Position = vec4(mix(place.xy, place.zw, pos), 0.0, 1.0);
}
"""

_NET = (
    _UNPACK
    + """
void main() {
  /* Each knot takes the nearest depth within a cell around it: fronts keep their shape, gaps behind them are stretched
     over. Cells of a knot with nothing around it are left out: they hold nothing, or less than a cell. */
  vec2 size = vec2(textureSize(texels, 0));
  vec2 cell = size / vec2(CELLS_X, CELLS_Y);
  float nearest = 1e30;
  for (int i = -2; i <= 2; i++) {
    for (int j = -2; j <= 2; j++) {
      float here;
      ivec2 near_by = ivec2(floor(pos * size + vec2(float(i), float(j)) * 0.5 * cell));
      if (texel_colour(near_by, here).a > 0.0) { nearest = min(nearest, here); }
    }
  }
  uv = pos;
  whole_cell = nearest < 1e29 ? 1.0 : 0.0;
  gl_Position = nearest < 1e29 ? clip_of(pos, nearest) : vec4(2.0, 2.0, 2.0, 1.0);
}
"""
)


def _create(vertex: str) -> Any:
    interface = gpu.types.GPUStageInterfaceInfo("effigy_between")
    interface.smooth("VEC2", "uv")
    interface.smooth("FLOAT", "whole_cell")
    info = gpu.types.GPUShaderCreateInfo()
    info.vertex_in(0, "VEC2", "pos")
    info.vertex_out(interface)
    # 128 bytes of push constants are what every driver has; these are 128.
    info.push_constant("MAT4", "clip_from_picture")
    info.push_constant("VEC4", "lens")
    info.push_constant("VEC4", "range")
    info.push_constant("VEC4", "mode")
    info.push_constant("VEC4", "place")
    info.sampler(0, "FLOAT_2D", "texels")
    info.fragment_out(0, "VEC4", "frag")
    compat.declare_depth_write(info)
    info.define("CELLS_X", f"{GRID[0]}.0")
    info.define("CELLS_Y", f"{GRID[1]}.0")
    info.vertex_source(vertex)
    info.fragment_source(_FRAGMENT)
    return gpu.shader.create_from_info(info)


@functools.cache
def as_it_is() -> tuple[Any, Any]:
    """Shader and batch that draw a picture where it lies in the view it was made for."""
    shader = _create(_AS_IT_IS)
    return shader, batch_for_shader(shader, "TRIS", {"pos": ((0, 0), (1, 0), (0, 1), (0, 1), (1, 0), (1, 1))})


@functools.cache
def moved() -> tuple[Any, Any]:
    """Shader and batch that draw a picture as a net bent by its depth."""
    shader = _create(_NET)
    columns, rows = GRID
    x, y = np.meshgrid(np.linspace(0, 1, columns + 1), np.linspace(0, 1, rows + 1))
    knots = np.stack([x, y], axis=-1).reshape(-1, 2).astype(np.float32)
    first = (np.arange(rows)[:, None] * (columns + 1) + np.arange(columns)).reshape(-1)
    above = first + columns + 1
    triangles = np.concatenate(
        [np.stack([first, first + 1, above], axis=1), np.stack([first + 1, above + 1, above], axis=1)]
    ).astype(np.int32)
    return shader, batch_for_shader(shader, "TRIS", {"pos": knots}, indices=triangles)


def forget() -> None:
    """Let go of shaders and batches (the add-on is switched off)."""
    as_it_is.cache_clear()
    moved.cache_clear()
