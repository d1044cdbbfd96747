"""A valid message of every kind, made from the type hints of its fields."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backend.fuzzing.runner import Files
from shared.errors import BadMessage, EffigyError
from shared.messages import MESSAGES
from shared.types import Camera, Environment, Motion, ProxyMesh, Rig
from shared.wire import FROM_CLIENT, FROM_SERVER, decode, encode

SHAPES = ((2, 3), (3,), (4, 8, 3), (3, 3), (1, 4, 4), (2, 2, 4), (0, 2))


@cache
def messages() -> tuple[Files, ...]:
    """Parts of each message that can be made so: "0" is the header, "1" and on the arrays."""
    found = []
    for kind in MESSAGES.values():
        for message in _made(kind):
            try:
                parts = [bytes(part) for part in encode(message, request_id=3, epoch="e1")]
                decode(parts, limits=FROM_SERVER)
            except (EffigyError, TypeError):
                continue
            found.append({f"{index}.json" if index == 0 else str(index): part for index, part in enumerate(parts)})
            break
    return tuple(found)


def read_parts(files: Files) -> Any:
    """Decode a message as the server does. Raises BadMessage, VersionMismatch."""
    return decode(_parts(files), limits=FROM_CLIENT)


def read_answer(files: Files) -> Any:
    """Decode a message as a client does, which takes longer ones. Raises BadMessage, VersionMismatch."""
    return decode(_parts(files), limits=FROM_SERVER)


def _parts(files: Files) -> list[bytes]:
    return [content for _, content in sorted(files.items(), key=lambda item: int(item[0].split(".")[0]))]


def _made(kind: type[Any]) -> Iterator[Any]:
    """Candidates of a message; some field shapes do not fit each other, so several are tried."""
    for shape in SHAPES:
        try:
            yield _value(kind, shape)
        except (EffigyError, TypeError, ValueError, KeyError, IndexError, BadMessage):
            continue


def _value(hint: Any, shape: tuple[int, ...]) -> Any:
    if hint in FIXED:
        return FIXED[hint]()
    if dataclasses.is_dataclass(hint):
        hints = typing.get_type_hints(hint)
        made = {field.name: _value(hints[field.name], shape) for field in dataclasses.fields(hint)}
        return hint(**made)  # type: ignore[operator]
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return _value(next(one for one in arguments if one is not type(None)), shape)
    if origin is tuple:
        return (_value(arguments[0], shape),) * 2
    if origin is dict:
        return {"a": _value(arguments[1], shape)}
    if origin is np.ndarray:
        kind = typing.get_args(arguments[1])[0]
        return np.zeros(shape, np.float32 if kind is Any else kind)
    return {int: 1, float: 0.5, str: "x", bool: True}[hint]


def _zeros(*shape: int) -> NDArray[Any]:
    return np.zeros(shape, np.float32)


def _rig() -> Rig:
    return Rig("t", "ab" * 32, ("a", "b"), np.array([-1, 0], np.int32), _zeros(2, 3), ("e",), _zeros(2), None)


def _proxy() -> ProxyMesh:
    faces: NDArray[Any] = np.array([[0, 1, 2, 2]], np.int32)
    group: NDArray[Any] = np.zeros(1, np.int32)
    joints: NDArray[Any] = np.zeros((3, 2), np.int32)
    moved: NDArray[Any] = np.array([1], np.int32)
    weights: NDArray[Any] = np.full((3, 2), 0.5, np.float32)
    return ProxyMesh(_zeros(3, 3), faces, group, ("skin",), joints, weights, _zeros(3, 3), moved, _zeros(1, 1, 3))


def _camera() -> Camera:
    return Camera(8, 8, np.array([[9.0, 0, 4], [0, 9, 4], [0, 0, 1]]), np.eye(4))


FIXED: dict[Any, Any] = {
    Rig: _rig,
    ProxyMesh: _proxy,
    Camera: _camera,
    Environment: lambda: Environment(np.ones((4, 8, 3), np.float32)),
    Motion: lambda: Motion(_zeros(2, 3, 3), _zeros(2, 3), _zeros(2, 1), 25.0),
}
"""Values whose parts must fit each other."""
