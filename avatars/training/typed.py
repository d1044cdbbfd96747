"""Plain mappings into frozen dataclasses, with errors that name the key, the type and the nearest valid name."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import yaml

from shared.errors import BadConfig, nearest

T = TypeVar("T")


def from_mapping(kind: type[T], values: Mapping[str, Any], where: str) -> T:
    """An instance of dataclass `kind` from nested `values`; missing keys keep their defaults. Raises BadConfig."""
    hints = get_type_hints(kind)
    names = [entry.name for entry in dataclasses.fields(kind)]  # type: ignore[arg-type]
    for key in values:
        if key not in names:
            raise BadConfig(f"{where} has no setting {key!r}{nearest(str(key), names)}", expected=", ".join(names))
    return kind(**{key: _value(hints[key], value, f"{where}.{key}") for key, value in values.items()})


def with_overrides(values: Mapping[str, Any], overrides: Mapping[str, str], kind: type[Any]) -> dict[str, Any]:
    """`values` with dotted names replaced by what their YAML texts say. Raises BadConfig."""
    merged = _copied(values)
    for dotted, text in overrides.items():
        try:
            value = yaml.safe_load(text) if isinstance(text, str) else text
        except yaml.YAMLError as error:
            raise BadConfig(
                f"the value of {dotted} cannot be read", found=repr(text), expected="a YAML value"
            ) from error
        place, hints = merged, get_type_hints(kind)
        *parents, last = dotted.split(".")
        for name in parents:
            inner = hints.get(name)
            if inner is None or not (dataclasses.is_dataclass(inner) or get_origin(inner) in _MAPPINGS):
                raise BadConfig(f"there is no group of settings {name!r}{nearest(name, hints)}", found=dotted)
            place = place.setdefault(name, {})
            hints = get_type_hints(inner) if dataclasses.is_dataclass(inner) else {}
        place[last] = value
    return merged


_MAPPINGS = (dict, Mapping)


def _copied(value: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _copied(inner) if isinstance(inner, dict) else inner for key, inner in value.items()}


def _value(kind: Any, value: Any, where: str) -> Any:
    """`value` as `kind`: a dataclass, Literal, tuple[X, ...], Mapping[str, X], bool, int, float or str."""
    if dataclasses.is_dataclass(kind):
        if not isinstance(value, Mapping):
            raise _wrong(where, value, "a group of settings")
        return from_mapping(kind, value, where)  # type: ignore[arg-type]
    origin = get_origin(kind)
    if origin is Literal:
        choices = get_args(kind)
        if value not in choices:
            hint = nearest(str(value), [str(choice) for choice in choices])
            raise BadConfig(f"{where} cannot be {value!r}{hint}", expected=" or ".join(map(repr, choices)))
        return value
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise _wrong(where, value, "a list")
        return tuple(_value(get_args(kind)[0], item, f"{where}[{index}]") for index, item in enumerate(value))
    if origin in _MAPPINGS or kind in _MAPPINGS:
        if not isinstance(value, Mapping):
            raise _wrong(where, value, "names and values")
        inner = get_args(kind)[1]
        return {str(key): _value(inner, item, f"{where}.{key}") for key, item in value.items()}
    return _scalar(kind, value, where)


def _scalar(kind: Any, value: Any, where: str) -> Any:
    if kind is float and isinstance(value, str):  # YAML 1.1 reads 1e-3 as a text
        try:
            value = float(value)
        except ValueError as error:
            raise _wrong(where, value, "a number") from error
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        names = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}
        raise _wrong(where, value, names.get(kind, str(kind)))
    if kind is float and not math.isfinite(value):
        raise _wrong(where, value, "a finite number")
    return value


def _wrong(where: str, value: Any, expected: str) -> BadConfig:
    return BadConfig(f"{where} has the wrong type", found=f"{value!r}", expected=expected)
