"""A row of float32 values as one number inside numba kernels.

A row of a lattice is a vertex's value for every class, padded to a multiple of four. Numba's own loops over such
short rows do not become vector instructions (the compiler cannot prove that rows do not overlap), so the kernels of
`mean_field` say it outright: `load` takes 4, 8, ... 32 neighbours of a flat float32 array, `+`, `-`, `*` work lane
by lane (also with one float32 on the right), `store` puts them back. LLVM maps them to whatever the processor has
(AVX, pairs of SSE or NEON registers). How many fours a row takes is known when a kernel is compiled: it is the
length of the tuple `kind`.
"""

import operator
from collections.abc import Callable
from functools import reduce
from typing import Any

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import njit, types
from numba.core import cgutils
from numba.core.typing.templates import ConcreteTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, models, register_model

from ducseg.files import compiled as kept_on_disk

__all__ = [
    "LANES",
    "MOST_FOURS",
    "compiled",
    "constant",
    "element",
    "exp",
    "highest",
    "inner",
    "load",
    "maximum",
    "store",
    "total",
]

LANES = 4  # values per element of `kind`
MOST_FOURS = 8  # 32 values: half of AVX2's registers
Function = Callable[..., Any]
_INT = ir.IntType(32)
_OPTIONS: Any = {"no_cfunc_wrapper": True}  # no entry from C: it takes long to compile


def compiled(function: Function) -> Function:
    """Compile for the CPU at first call, keep the result on disk, run without Python's lock.

    Not `fastmath`: the lattice's vertices must be found with the very roundings of the original, or ties fall
    elsewhere. The copy on disk knows only its own file: after changing a kernel that one in another file calls, delete
    __pycache__.
    """
    return kept_on_disk(nogil=True, error_model="numpy", **_OPTIONS)(function)  # type: ignore[no-any-return]


def inner(function: Function) -> Function:
    """Like `compiled`, for functions that only kernels call, which keep a copy themselves."""
    return njit(nogil=True, error_model="numpy", **_OPTIONS)(function)  # type: ignore[no-any-return]


def _instruction(function: Function) -> Function:
    """A function of numba types that returns a signature and what writes the instructions."""
    return intrinsic(function)


class _Row(types.Type):
    """Numba's type of a row: as many vectors of eight float32 as fit, then one of four."""

    def __init__(self, fours: int) -> None:
        self.fours = fours
        super().__init__(name=f"float32x{LANES * fours}")

    @property
    def widths(self) -> list[int]:
        return [8] * (self.fours // 2) + [4] * (self.fours % 2)


def _vector(width: int) -> Any:
    return ir.VectorType(ir.FloatType(), width)


def _whole(width: int, values: list[int]) -> Any:
    return ir.Constant(ir.VectorType(_INT, width), values)


def _struct(row: _Row) -> Any:
    return ir.LiteralStructType([_vector(width) for width in row.widths])


@register_model(_Row)
class _RowModel(models.PrimitiveModel):
    def __init__(self, manager: Any, row: _Row) -> None:
        super().__init__(manager, row, _struct(row))  # type: ignore[no-untyped-call]


_ROWS = [_Row(fours) for fours in range(1, MOST_FOURS + 1)]


def _packed(builder: Any, vectors: list[Any]) -> Any:
    result = ir.Constant(ir.LiteralStructType([vector.type for vector in vectors]), ir.Undefined)
    for i, vector in enumerate(vectors):
        result = builder.insert_value(result, vector, i)
    return result


def _unpacked(builder: Any, row: Any) -> list[Any]:
    return [builder.extract_value(row, i) for i in range(len(row.type.elements))]


def _per_vector(builder: Any, operation: Callable[..., Any], *rows: Any) -> Any:
    """Apply an operation on vectors to each vector of the rows."""
    return _packed(builder, [operation(*vectors) for vectors in zip(*(_unpacked(builder, row) for row in rows))])


def _fill(builder: Any, value: Any, row: _Row) -> Any:
    """A row with one value in all lanes."""
    vectors = []
    for width in row.widths:
        nothing = ir.Constant(_vector(width), ir.Undefined)
        first = builder.insert_element(nothing, value, ir.Constant(_INT, 0))
        vectors.append(builder.shuffle_vector(first, nothing, _whole(width, [0] * width)))
    return _packed(builder, vectors)


def _arithmetic(symbol: Any, instruction: str) -> None:
    class Template(ConcreteTemplate):
        cases = [signature(row, row, b) for row in _ROWS for b in (row, types.float32)]  # type: ignore[no-untyped-call]  # noqa: RUF012

    infer_global(symbol)(Template)  # type: ignore[no-untyped-call]

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        a, b = args
        if sig.args[1] is types.float32:
            b = _fill(builder, b, sig.args[0])
        # "contract" lets a + b * c become one fused instruction
        return _per_vector(builder, lambda x, y: getattr(builder, instruction)(x, y, flags=("contract",)), a, b)

    for row in _ROWS:
        for other in (row, types.float32):
            lower_builtin(symbol, row, other)(generate)  # type: ignore[no-untyped-call]


_arithmetic(operator.add, "fadd")
_arithmetic(operator.sub, "fsub")
_arithmetic(operator.mul, "fmul")


def _pointers(context: Any, builder: Any, kind: Any, args: Any, row: _Row) -> list[Any]:
    """Where the row's vectors lie in the array."""
    data = context.make_array(kind)(context, builder, args[0]).data
    first = builder.gep(data, [args[1]])
    places = [builder.gep(first, [ir.Constant(_INT, 8 * i)]) for i in range(len(row.widths))]
    return [builder.bitcast(place, _vector(width).as_pointer()) for place, width in zip(places, row.widths)]


@_instruction
def load(typing: Any, array: Any, index: Any, kind: Any) -> Any:
    """The values of a flat float32 array from `index` on (never checked against the array's end)."""
    row = _ROWS[len(kind) - 1]

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        vectors = [builder.load(place, align=4) for place in _pointers(context, builder, sig.args[0], args, row)]
        return _packed(builder, vectors)

    return row(array, types.intp, kind), generate


@_instruction
def element(typing: Any, array: Any, index: Any) -> Any:
    """One value of a contiguous array, by its place in memory (never checked, and never counted from the end)."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        data = context.make_array(sig.args[0])(context, builder, args[0]).data
        return builder.load(builder.gep(data, [args[1]]))

    return array.dtype(array, types.intp), generate


@_instruction
def store(typing: Any, array: Any, index: Any, row: Any) -> Any:
    """Put a row into a flat float32 array from `index` on (never checked against the array's end)."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        places = _pointers(context, builder, sig.args[0], args, row)
        for vector, place in zip(_unpacked(builder, args[2]), places):
            builder.store(vector, place, align=4)
        return context.get_dummy_value()

    return types.void(array, types.intp, row), generate


@_instruction
def constant(typing: Any, value: Any, kind: Any) -> Any:
    """The same float32 in all lanes."""
    row = _ROWS[len(kind) - 1]
    return row(types.float32, kind), lambda context, builder, sig, args: _fill(builder, args[0], row)


def _larger(builder: Any) -> Callable[[Any, Any], Any]:
    return lambda x, y: builder.select(builder.fcmp_ordered(">", x, y), x, y)


@_instruction
def maximum(typing: Any, a: Any, b: Any) -> Any:
    """The larger of two, lane by lane."""
    return a(a, a), lambda context, builder, sig, args: _per_vector(builder, _larger(builder), *args)


def _folded(builder: Any, row: Any, join: Callable[[Any, Any], Any]) -> Any:
    """Join a row's eights, their two halves with its four, and so on until one value is left."""

    def halves(vector: Any) -> list[Any]:
        half = vector.type.count // 2
        return [builder.shuffle_vector(vector, vector, _whole(half, list(range(i, i + half)))) for i in (0, half)]

    vectors = _unpacked(builder, row)
    fours = [vector for vector in vectors if vector.type.count == LANES]
    if eights := [vector for vector in vectors if vector.type.count > LANES]:
        fours += halves(reduce(join, eights))
    two = join(*halves(reduce(join, fours)))
    return builder.extract_element(join(*halves(two)), ir.Constant(_INT, 0))


@_instruction
def highest(typing: Any, row: Any) -> Any:
    """The largest of a row's values."""
    return types.float32(row), lambda context, builder, sig, args: _folded(builder, args[0], _larger(builder))


@_instruction
def total(typing: Any, row: Any) -> Any:
    """The sum of a row's values."""
    return types.float32(row), lambda context, builder, sig, args: _folded(builder, args[0], builder.fadd)


@_instruction
def _nearest(typing: Any, row: Any) -> Any:
    """The nearest whole numbers."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        def rint(x: Any) -> Any:
            kind = ir.FunctionType(x.type, [x.type])
            name = f"llvm.rint.v{x.type.count}f32"
            function = cgutils.get_or_insert_function(builder.module, kind, name)  # type: ignore[no-untyped-call]
            return builder.call(function, [x])

        return _per_vector(builder, rint, args[0])

    return row(row), generate


@_instruction
def _two_to(typing: Any, row: Any) -> Any:
    """2 to whole powers from -126 to 127: such a float32 is its exponent plus 127, above 23 bits of fraction."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        def power(x: Any) -> Any:
            width = x.type.count
            exponent = builder.add(builder.fptosi(x, ir.VectorType(_INT, width)), _whole(width, [127] * width))
            return builder.bitcast(builder.shl(exponent, _whole(width, [23] * width)), x.type)

        return _per_vector(builder, power, args[0])

    return row(row), generate


@_instruction
def _zero_below(typing: Any, row: Any, test: Any, bound: Any) -> Any:
    """The row, but zero where `test` is below `bound`."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        def chosen(x: Any, t: Any, b: Any) -> Any:
            return builder.select(builder.fcmp_ordered("<", t, b), ir.Constant(x.type, None), x)

        return _per_vector(builder, chosen, *args)

    return row(row, row, row), generate


@inner
def exp(x: Any, kind: Any) -> Any:
    """exp of non-positive numbers, to 2 units in the last place; exactly 0 below -60.

    Zero instead of 1e-26 keeps products with it out of the denormal numbers, which are a hundred times slower.
    """
    lowest = constant(np.float32(-60.0), kind)
    clipped = maximum(x, lowest)
    power = _nearest(clipped * np.float32(1.4426950408889634))
    # ln 2 in two parts, so that the remainder in +-ln2/2 keeps all its bits (Cody and Waite)
    rest = clipped - power * np.float32(0.693359375) - power * np.float32(-2.12194440e-4)
    # minimax polynomial of (exp(r) - 1 - r) / r**2 on +-ln2/2 (Cephes, expf)
    p = constant(np.float32(1.9875691500e-4), kind) * rest + np.float32(1.3981999507e-3)
    p = p * rest + np.float32(8.3334519073e-3)
    p = p * rest + np.float32(4.1665795894e-2)
    p = p * rest + np.float32(1.6666665459e-1)
    p = p * rest + np.float32(5.0000001201e-1)
    p = p * (rest * rest) + rest + np.float32(1.0)
    return _zero_below(p * _two_to(power), x, lowest)
