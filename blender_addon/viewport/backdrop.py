"""The World behind the avatars in Rendered shading, as the engine's final pictures have it."""

from __future__ import annotations

import functools
from typing import Any

import gpu
import numpy as np
from gpu_extras.batch import batch_for_shader
from mathutils import Matrix

from ..logic import world_maths

LARGEST_PX = (2048, 1024)

_FRAGMENT = """
vec3 sky(vec2 at) {
  /* bilinear by hand: columns wrap around, rows do not */
  ivec2 size = textureSize(radiance, 0);
  vec2 place = at * vec2(size) - 0.5;
  ivec2 low = ivec2(floor(place));
  vec2 part = place - floor(place);
  vec3 sum = vec3(0.0);
  for (int i = 0; i < 4; i++) {
    ivec2 step_to = ivec2(i & 1, i >> 1);
    ivec2 texel = low + step_to;
    texel.x = (texel.x + size.x) % size.x;
    texel.y = clamp(texel.y, 0, size.y - 1);
    float share = (step_to.x == 1 ? part.x : 1.0 - part.x) * (step_to.y == 1 ? part.y : 1.0 - part.y);
    sum += share * texelFetch(radiance, texel, 0).rgb;
  }
  return sum;
}
void main() {
  vec4 far = map_from_clip * vec4(place, 1.0, 1.0);
  vec4 near = map_from_clip * vec4(place, -1.0, 1.0);
  vec3 d = far.xyz * near.w - near.xyz * far.w;
  vec2 at = vec2(0.5 - atan(d.y, d.x) / 6.283185307, 0.5 - atan(d.z, length(d.xy)) / 3.141592654);
  frag = vec4(sky(at) * gain.rgb, 1.0);
}
"""


@functools.cache
def _shader() -> tuple[Any, Any]:
    interface = gpu.types.GPUStageInterfaceInfo("effigy_backdrop")
    interface.smooth("VEC2", "place")
    info = gpu.types.GPUShaderCreateInfo()
    info.vertex_in(0, "VEC2", "pos")
    info.vertex_out(interface)
    info.push_constant("MAT4", "map_from_clip")
    info.push_constant("VEC4", "gain")
    info.sampler(0, "FLOAT_2D", "radiance")
    info.fragment_out(0, "VEC4", "frag")
    info.vertex_source("void main() { place = pos; gl_Position = vec4(pos, 0.0, 1.0); }")
    info.fragment_source(_FRAGMENT)
    shader = gpu.shader.create_from_info(info)
    return shader, batch_for_shader(shader, "TRIS", {"pos": ((-1, -1), (3, -1), (-1, 3))})


class Backdrop:
    """The newest World's map on the graphics card."""

    def __init__(self) -> None:
        self._source: Any = None
        self._texture: Any = None

    def draw(self, seen: Any, view_from_world: Any, clip_from_view: Any) -> None:
        """Fill the bound framebuffer with what the view sees of a services.world_read.WorldMap, in linear light."""
        self._upload(seen)
        rotation = np.eye(4)
        rotation[:3, :3] = seen.map_from_world
        clip_from_world = np.array(clip_from_view) @ np.array(view_from_world)
        shader, batch = _shader()
        gpu.state.blend_set("NONE")
        gpu.state.depth_test_set("NONE")
        shader.bind()
        # Directions only: what is added to both ends of a ray by the eye's place falls out of their difference.
        shader.uniform_float("map_from_clip", Matrix((rotation @ np.linalg.inv(clip_from_world)).tolist()))
        shader.uniform_float("gain", (*seen.gain.tolist(), 1.0))
        shader.uniform_sampler("radiance", self._texture)
        batch.draw(shader)

    def _upload(self, seen: Any) -> None:
        if seen.source == self._source:
            return
        small = world_maths.shrink(seen.radiance, LARGEST_PX)
        height, width = small.shape[:2]
        rgba = np.ones((height, width, 4), np.float32)
        rgba[..., :3] = small
        data = gpu.types.Buffer("FLOAT", rgba.size, rgba.reshape(-1))
        self._texture = gpu.types.GPUTexture((width, height), format="RGBA16F", data=data)
        self._source = seen.source


def forget() -> None:
    """Let go of the shader (the add-on is switched off)."""
    _shader.cache_clear()
