"""Eight float32 side by side as a numba value: the vector of pixels the blending kernels work on.

LLVM does not vectorise the blending loops by itself (it cannot prove that the buffers are apart), so the kernels say
what they mean: a value here is LLVM's `<8 x float>`, which becomes one AVX register, or two of NEON. Every operation is
exact IEEE arithmetic in a fixed order; `fma` is fused where the processor can.
"""

from __future__ import annotations

import operator
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, overload, register_model

LANES = 8
_FLOATS = ir.VectorType(ir.FloatType(), LANES)
_INTS = ir.VectorType(ir.IntType(32), LANES)


class _LanesType(types.Type):
    def __init__(self) -> None:
        super().__init__(name=f"float32x{LANES}")


lanes_type = _LanesType()


@register_model(_LanesType)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager: Any, numba_type: Any) -> None:
        super().__init__(manager, numba_type, _FLOATS)


def _constant(value: float) -> ir.Constant:
    return ir.Constant(_FLOATS, [ir.Constant(ir.FloatType(), value)] * LANES)


def _pointer(context: Any, builder: Any, array_type: Any, array: Any, index: Any) -> Any:
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), _FLOATS.as_pointer())


def _fma(builder: Any, a: Any, b: Any, c: Any) -> Any:
    function = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(_FLOATS, [_FLOATS] * 3), f"llvm.fmuladd.v{LANES}f32"
    )
    return builder.call(function, [a, b, c])


@intrinsic
def load(typing: Any, array: Any, index: Any) -> Any:
    """Eight values of a contiguous 1-D float32 array from `index` on."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        position = context.cast(builder, arguments[1], signature.args[1], types.intp)
        value = builder.load(_pointer(context, builder, signature.args[0], arguments[0], position))
        value.align = 4
        return value

    return lanes_type(array, index), generate


@intrinsic
def store(typing: Any, array: Any, index: Any, value: Any) -> Any:
    """Put eight values into a contiguous 1-D float32 array from `index` on."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        position = context.cast(builder, arguments[1], signature.args[1], types.intp)
        stored = builder.store(arguments[2], _pointer(context, builder, signature.args[0], arguments[0], position))
        stored.align = 4
        return context.get_dummy_value()

    return types.void(array, index, value), generate


@intrinsic
def splat(typing: Any, value: Any) -> Any:
    """The same number in every lane."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        number = context.cast(builder, arguments[0], signature.args[0], types.float32)
        single = builder.insert_element(ir.Constant(_FLOATS, ir.Undefined), number, ir.Constant(ir.IntType(32), 0))
        return builder.shuffle_vector(single, ir.Constant(_FLOATS, ir.Undefined), ir.Constant(_INTS, [0] * LANES))

    return lanes_type(value), generate


@intrinsic
def ramp(typing: Any) -> Any:
    """0, 1, 2, ... 7."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return ir.Constant(_FLOATS, [ir.Constant(ir.FloatType(), float(lane)) for lane in range(LANES)])

    return lanes_type(), generate


@intrinsic
def fma(typing: Any, a: Any, b: Any, c: Any) -> Any:
    """a * b + c."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _fma(builder, *arguments)

    return lanes_type(a, b, c), generate


@intrinsic
def select_greater(typing: Any, a: Any, b: Any, yes: Any, no: Any) -> Any:
    """`yes` where a > b, else `no`, lane by lane."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        a, b, yes, no = arguments
        return builder.select(builder.fcmp_ordered(">", a, b), yes, no)

    return lanes_type(a, b, yes, no), generate


@intrinsic
def total(typing: Any, a: Any) -> Any:
    """The sum of the lanes as a float32, always in the same (tree) order."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        value, width = arguments[0], LANES
        while width > 1:
            width //= 2
            undefined = ir.Constant(value.type, ir.Undefined)
            index = ir.VectorType(ir.IntType(32), width)
            low = builder.shuffle_vector(value, undefined, ir.Constant(index, list(range(width))))
            high = builder.shuffle_vector(value, undefined, ir.Constant(index, list(range(width, 2 * width))))
            value = builder.fadd(low, high)
        return builder.extract_element(value, ir.Constant(ir.IntType(32), 0))

    return types.float32(a), generate


# 2^f on [-1/2, 1/2]: minimax fit of degree 5, relative error 9e-8, about float32's own rounding.
_EXP2 = (1.0, 0.6931469776, 0.24022242058, 0.055507337476, 0.0096715138882, 0.0013264725376)


@intrinsic
def exp_of_negative(typing: Any, a: Any) -> Any:
    """exp(a) for a <= 0; below -80 it stays at exp(-80)."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        floor = _constant(-80.0)
        value = builder.select(builder.fcmp_ordered(">", arguments[0], floor), arguments[0], floor)
        # Adding 1.5 * 2^23 rounds to the nearest integer and leaves it in the low bits of the sum.
        magic = _constant(12582912.0)
        shifted = _fma(builder, value, _constant(1.4426950408889634), magic)
        whole = builder.fsub(shifted, magic)
        fraction = _fma(builder, value, _constant(1.4426950408889634), builder.fneg(whole))
        power = _constant(_EXP2[-1])
        for coefficient in reversed(_EXP2[:-1]):
            power = _fma(builder, power, fraction, _constant(coefficient))
        exponent = builder.shl(builder.bitcast(shifted, _INTS), ir.Constant(_INTS, [23] * LANES))
        return builder.bitcast(builder.add(builder.bitcast(power, _INTS), exponent), _FLOATS)

    return lanes_type(a), generate


def _binary(name: str) -> Any:
    @intrinsic
    def operation(typing: Any, a: Any, b: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return getattr(builder, name)(*arguments)

        return lanes_type(a, b), generate

    return operation


def _offer(symbol: Any, operation: Any) -> None:
    def implementation(a, b):  # type: ignore[no-untyped-def]  # numba compares the two signatures, annotations too
        if isinstance(a, _LanesType) and isinstance(b, _LanesType):
            return lambda a, b: operation(a, b)  # noqa: PLW0108
        return None

    overload(symbol)(implementation)


for _symbol, _name in (
    (operator.add, "fadd"),
    (operator.sub, "fsub"),
    (operator.mul, "fmul"),
    (operator.truediv, "fdiv"),
):
    _offer(_symbol, _binary(_name))
