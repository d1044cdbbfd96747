"""The environment maps of one request: handed over to a backend once, then named by digest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Map = NDArray[np.float16]


@dataclass(frozen=True, eq=False)
class LightMaps:
    """Radiance [H, W, 3] float16 each. picture: for all avatars; own: of single avatars, in the request's order, empty
    where none has one. None: none is needed."""

    picture: Map | None = None
    own: tuple[Map | None, ...] = ()


NO_MAPS = LightMaps()


def handed_over(client: Any, request: Any, maps: LightMaps, cancelled: Callable[[], bool]) -> Any:
    """The request with the digests of its maps. Raises what BackendClient.put_environment raises."""
    digest = "" if maps.picture is None else client.put_environment(maps.picture, cancelled=cancelled)
    request = replace(request, environment=digest)
    if all(radiance is None for radiance in maps.own):
        return request
    instances = []
    for item, radiance in zip(request.instances, maps.own, strict=True):
        own = item.light
        if radiance is not None:
            own = replace(own, environment=client.put_environment(radiance, cancelled=cancelled))
        instances.append(replace(item, light=own))
    return replace(request, instances=tuple(instances))
