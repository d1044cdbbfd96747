"""Reads pickles of arrays that came from somewhere else, without running anything that is in them.

A pickle is a program; `pickle.load` runs it with all of Python at its disposal. Here a small machine of our own runs it
instead. It knows plain containers, texts and numbers; a global is only ever a name to it, looked up in an explicit
table of our builders and never imported. So numpy arrays and scalars, scipy sparse matrices and the chumpy wrappers of
SMPL and FLAME files come out as plain arrays, and whatever else a file asks for refuses the file. Texts of Python 2 are
read as latin-1.
"""

from __future__ import annotations

import pickletools
import re
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from avatars.templates.pickled_arrays import Dtype, Inert, Refused, array_of, expect, latin1, text_of, unwrapped
from shared.errors import BadTemplate, EffigyError

MAX_BYTES = 512 << 20
MAX_OPERATIONS = 200_000
MAX_DEPTH = 32
MAX_KEY = 1000
BYTES_AN_ITEM = 100
MAX_MADE_BYTES = 1 << 30
"""Most that all arrays and texts made while reading may take: a memo could repeat one of them thousands of times."""
_DAMAGE = (
    ValueError,
    IndexError,
    KeyError,
    TypeError,
    OverflowError,
    RecursionError,
    MemoryError,
    struct.error,
    Warning,
)
_MARK = object()
_SPARSE = re.compile(r"scipy\.sparse(\.\w+)?")
_CHUMPY = re.compile(r"chumpy(\.\w+)*")


@dataclass(frozen=True)
class _Global:
    """A name in a module. Nothing is imported for it."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"[:80]


@dataclass(eq=False)
class _Array:
    value: Any = None


def read_pickle(
    source: Path | bytes,
    name: str = "",
    error_class: type[EffigyError] = BadTemplate,
    *,
    max_bytes: int = MAX_BYTES,
    max_operations: int = MAX_OPERATIONS,
    builders: Mapping[tuple[str, str], Callable[..., Any]] | None = None,
    persistent: Callable[[Any], Any] | None = None,
) -> Any:
    """The content of a pickle as plain containers and numpy arrays; chumpy objects become arrays, sparse ones dense.

    source: a file, or its bytes. builders: further (module, name) -> function of ours to call for it; persistent: what
    a persistent id stands for (torch files). Raises `error_class` with a sentence that calls the file `name` where it
    is damaged, too large, or holds anything but data; nothing of it has been executed then.
    """
    if isinstance(source, Path):
        name = name or source.name
        try:
            size = source.stat().st_size
            content = source.read_bytes() if size <= max_bytes else b""
        except OSError as error:
            raise error_class(f"{source} cannot be read", found=error.strerror or str(error)) from error
    else:
        content, size = source, len(source)
    if size > max_bytes:
        raise error_class(f"{name} is too large", found=f"{size} bytes", expected=f"at most {max_bytes}")
    try:
        machine = _Machine(builders or {}, persistent, max_operations)
        return _plain(machine.run(content), 0, {}, machine.spend)
    except Refused as refusal:
        raise error_class(
            f"{name} asks for more than data and was not run",
            found=str(refusal),
            expected="numpy arrays, sparse matrices and plain values",
            do="Get the file again from its authors",
        ) from refusal
    except _DAMAGE as error:
        raise error_class(f"{name} is no intact pickle", found=str(error)[:120], do="Copy the file again") from error


class _Machine:
    """The pickle machine, reduced to data."""

    def __init__(
        self,
        builders: Mapping[tuple[str, str], Callable[..., Any]],
        persistent: Callable[[Any], Any] | None,
        max_operations: int,
    ) -> None:
        self.max_operations = max_operations
        self.builders = BUILDERS | dict(builders)
        self.persistent = persistent
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.left_bytes = MAX_MADE_BYTES

    def spend(self, count: int) -> None:
        self.left_bytes -= count
        if self.left_bytes < 0:
            raise Refused(f"more than {MAX_MADE_BYTES} bytes")

    def run(self, content: bytes) -> Any:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(content)):
            if count > self.max_operations:
                raise Refused(f"more than {self.max_operations} operations")
            if opcode.name == "STOP":
                return self.pop()
            self.step(opcode.name, argument)
        raise ValueError("it ends too early")

    def pop(self) -> Any:
        value = self.stack.pop()
        if value is _MARK:
            raise ValueError("a mark where a value should be")
        return value

    def pop_to_mark(self) -> list[Any]:
        for index in range(len(self.stack) - 1, -1, -1):
            if self.stack[index] is _MARK:
                items = self.stack[index + 1 :]
                del self.stack[index:]
                return items
        raise ValueError("a mark is missing")

    def step(self, name: str, argument: Any) -> None:
        stack = self.stack
        if name in _LITERALS:
            stack.append(argument if _LITERALS[name] is None else _LITERALS[name](argument))
        elif name in _FRESH:
            stack.append(_FRESH[name]())
        elif name in _TUPLES:
            items = [self.pop() for _ in range(_TUPLES[name])]
            stack.append(tuple(reversed(items)))
        elif name in _MARKED:
            stack.append(_MARKED[name](self.pop_to_mark()))
        elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
            self.memo[int(argument)] = stack[-1]
        elif name == "MEMOIZE":
            self.memo[len(self.memo)] = stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(self.memo[int(argument)])
        elif name == "GLOBAL":
            stack.append(self.global_of(*str(argument).split(" ", 1)))
        elif name == "STACK_GLOBAL":
            last = self.pop()
            stack.append(self.global_of(self.pop(), last))
        elif name in ("APPEND", "APPENDS"):
            items = [self.pop()] if name == "APPEND" else self.pop_to_mark()
            expect(stack[-1], list).extend(items)
        elif name in ("SETITEM", "SETITEMS"):
            items = [self.pop(), self.pop()][::-1] if name == "SETITEM" else self.pop_to_mark()
            expect(stack[-1], dict).update(_dictionary(items))
        elif name == "ADDITEMS":
            items = self.pop_to_mark()
            expect(stack[-1], set).update(_key(item) for item in items)
        elif name in ("REDUCE", "NEWOBJ"):
            arguments = expect(self.pop(), tuple)
            stack.append(self.call(self.pop(), arguments))
        elif name == "BUILD":
            state = self.pop()
            self.spend(_length(state))
            _build(stack[-1], state)
        elif name == "BINPERSID" and self.persistent is not None:
            stack.append(self.persistent(self.pop()))
        elif name in ("PROTO", "FRAME"):
            pass
        else:
            self.shuffle(name)

    def shuffle(self, name: str) -> None:
        if name == "POP":
            self.stack.pop()
        elif name == "POP_MARK":
            self.pop_to_mark()
        elif name == "DUP":
            self.stack.append(self.stack[-1])
        elif name == "MARK":
            self.stack.append(_MARK)
        else:
            raise Refused(f"the operation {name}")

    def global_of(self, module: Any, name: Any) -> _Global:
        found = _Global(expect(module, str), expect(name, str))
        inert = _SPARSE.fullmatch(found.module) or _CHUMPY.fullmatch(found.module) or found in _TYPES
        if not inert and (found.module, found.name) not in self.builders:
            raise Refused(str(found))
        return found

    def call(self, function: Any, arguments: tuple[Any, ...]) -> Any:
        target = expect(function, _Global)
        if (target.module, target.name) in self.builders:
            self.spend(_length(arguments))
            return self.builders[target.module, target.name](*arguments)
        if target in _TYPES:
            raise Refused(f"a call of {target}")
        return Inert(str(target))


def _length(state: Any) -> int:
    """About how many bytes a copy of what a state or arguments directly hold takes."""
    parts = state if type(state) is tuple else (state,)
    texts = sum(len(part) for part in parts if isinstance(part, (str, bytes)))
    return texts + BYTES_AN_ITEM * sum(len(part) for part in parts if isinstance(part, (list, tuple, dict, set)))


def _key(value: Any) -> Any:
    """A dictionary key or set member: plain values only, whose hash is Python's own."""
    if isinstance(value, (str, bytes, tuple)) and len(value) > MAX_KEY:
        raise ValueError("a key is too long")
    if isinstance(value, bytes):
        return value.decode("latin-1")
    if type(value) is tuple and all(type(item) in (str, int) for item in value):
        return value
    if value is not None and type(value) not in (str, int, float, bool):
        raise ValueError(f"a {type(value).__name__} cannot be a key")
    return value


def _dictionary(items: list[Any]) -> dict[Any, Any]:
    return {_key(key): value for key, value in zip(items[::2], items[1::2], strict=True)}


def _build(target: Any, state: Any) -> None:
    """Give an object its state. Only the kinds below have one; no foreign __setstate__ is ever called."""
    if isinstance(target, _Array):
        _, shape, dtype, fortran, data = expect(state, tuple)
        target.value = array_of(data, dtype, shape, "F" if fortran else "C")
    elif isinstance(target, Dtype):
        target.order = text_of(expect(state, tuple)[1])
        if any(entry is not None for entry in state[2:5]):
            raise Refused("a structured numpy type")
    elif isinstance(target, Inert):
        parts = state if type(state) is tuple else (state,)
        for part in parts:
            if part is not None:
                target.state.update({text_of(key): value for key, value in expect(part, dict).items()})
    else:
        raise Refused(f"a state for a {type(target).__name__.strip('_')}")


def _frombuffer(data: Any, dtype: Any, shape: Any, order: Any) -> _Array:
    return _Array(array_of(data, dtype, shape, "F" if text_of(order) == "F" else "C"))


def _scalar(dtype: Any, data: Any) -> Any:
    return array_of(data, dtype, (), "C")[()]


def _encode(text: Any, encoding: Any = "latin1") -> bytes:
    if text_of(encoding).replace("-", "") != "latin1":
        raise Refused(f"text in the encoding {encoding!r:.40}")
    return latin1(text)


def _reconstructor(kind: Any, base: Any, _: Any) -> Inert:
    if expect(base, _Global) not in _TYPES or expect(kind, _Global) in _TYPES:
        raise Refused(f"an object of {kind} over {base}")
    return Inert(str(kind))


def _ordered(pairs: Any = ()) -> dict[Any, Any]:
    return {_key(key): value for key, value in pairs}


_NUMPY_CORES = ("numpy.core", "numpy._core")
_TYPES = {_Global("numpy", "ndarray"), _Global("__builtin__", "object"), _Global("builtins", "object")}
BUILDERS: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy", "dtype"): lambda name, *_: Dtype(text_of(name)),
    ("_codecs", "encode"): _encode,
    ("copy_reg", "_reconstructor"): _reconstructor,
    ("copyreg", "_reconstructor"): _reconstructor,
    ("collections", "OrderedDict"): _ordered,
    **{(module, "bytes"): lambda: b"" for module in ("__builtin__", "builtins")},
    **{(module, "set"): lambda items=(): {_key(item) for item in items} for module in ("__builtin__", "builtins")},
    **{(f"{core}.multiarray", "_reconstruct"): lambda *_: _Array() for core in _NUMPY_CORES},
    **{(f"{core}.multiarray", "scalar"): _scalar for core in _NUMPY_CORES},
    **{(f"{core}.numeric", "_frombuffer"): _frombuffer for core in _NUMPY_CORES},
}
"""(module, name) -> our own function for it: everything a pickle can have called."""
_LITERALS: dict[str, Callable[[Any], Any] | None] = {
    **dict.fromkeys(("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT")),
    **dict.fromkeys(("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE")),
    **dict.fromkeys(("BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8")),
    "BYTEARRAY8": bytes,
}
_FRESH: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "EMPTY_DICT": dict,
    "EMPTY_SET": set,
}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_MARKED: dict[str, Callable[[list[Any]], Any]] = {
    "TUPLE": tuple,
    "LIST": list,
    "DICT": _dictionary,
    "FROZENSET": lambda items: {_key(item) for item in items},
}


def _plain(value: Any, depth: int, done: dict[int, Any], spend: Callable[[int], None]) -> Any:
    """The value without our stand-ins. `done` keeps shared parts shared, so that they cannot multiply."""
    if depth > MAX_DEPTH:
        raise Refused(f"values nested deeper than {MAX_DEPTH}")
    if isinstance(value, (_Global, Dtype)):
        return Inert(str(value))
    if not isinstance(value, (list, tuple, dict, _Array, Inert)):
        return value
    if id(value) in done:
        return done[id(value)]
    if isinstance(value, _Array):
        made = _plain(value.value, depth + 1, done, spend)
    elif isinstance(value, dict):
        made = {key: _plain(item, depth + 1, done, spend) for key, item in value.items()}
    elif isinstance(value, Inert):
        value.state = {key: _plain(item, depth + 1, done, spend) for key, item in value.state.items()}
        made = unwrapped(value, spend)
    else:
        made = type(value)(_plain(item, depth + 1, done, spend) for item in value)
    done[id(value)] = made
    return made
