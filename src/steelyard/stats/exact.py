"""Sums that no order, batching or number of workers can change in the last bit.

Values are cut into whole multiples of a power of two so near to the largest that a chunk of them adds up to fewer than
53 bits, in which floating-point addition is exact; what is left of the values is cut again, until nothing is (the
extraction of Rump, Ogita and Oishi 2008, SIAM Journal on Scientific Computing 31, 189-224). The totals are carried as
Python integers in units of ``2^-1074``. Only :meth:`ExactSum.value` rounds, once and to nearest, as `math.fsum` does.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from steelyard.errors import InvalidInput

__all__ = ["ExactSum", "exact_sum"]

Floats = NDArray[np.float64]

_UNIT = 1074  # every double is a multiple of 2^-1074, the smallest one
_CHUNK = 1 << 15  # rows at once: they stay in the cache
_BITS = 37  # of a value at once: 2^15 of them sum to at most 2^52 units
_HUGE = 2.0**1000  # from here on a sum could overflow
_DOWN = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class ExactSum:
    """Exact column sums of `rows` rows, each in units of ``2^-1074``; sums of parts are merged with :meth:`merge`.

    >>> parts = ExactSum.of([1e308, 1.0]).merge(ExactSum.of([-1e308, 1e-308]))
    >>> float(parts.value()[0]), parts.rows
    (1.0, 4)
    """

    rows: int
    totals: tuple[int, ...]

    @classmethod
    def of(cls, values: ArrayLike) -> ExactSum:
        """The sums of the columns of ``(n, m)``, or of one column ``(n,)``; n may be 0.

        Raises `InvalidInput` for NaN or infinity, naming the first row, and for other shapes.
        """
        array = np.asarray(values, dtype=np.float64)
        if array.ndim not in (1, 2):
            raise InvalidInput(f"values to sum are one column (n,) or several (n, m); got shape {array.shape}")
        table = array.reshape(len(array), 1) if array.ndim == 1 else array
        return cls(rows=len(table), totals=tuple(_column_total(column) for column in table.T))

    @classmethod
    def zero(cls, columns: int) -> ExactSum:
        """The sum of no rows: the start of an accumulation."""
        return cls(rows=0, totals=(0,) * columns)

    def merge(self, other: ExactSum) -> ExactSum:
        """The sums over the rows of both; raises `InvalidInput` for unequal numbers of columns."""
        if len(self.totals) != len(other.totals):
            raise InvalidInput(f"sums of {len(self.totals)} and {len(other.totals)} columns cannot be merged")
        totals = tuple(a + b for a, b in zip(self.totals, other.totals, strict=True))
        return ExactSum(rows=self.rows + other.rows, totals=totals)

    def value(self) -> Floats:
        """The sums ``(m,)``, each rounded once to the nearest double.

        Raises `InvalidInput` where a sum is beyond the largest double.
        """
        try:
            return np.array([total / (1 << _UNIT) for total in self.totals], dtype=np.float64)
        except OverflowError:
            raise InvalidInput("a sum is beyond the largest double, 1.8e308: scale the values down") from None


def exact_sum(values: ArrayLike) -> float:
    """The correctly rounded sum of ``(n,)``.

    >>> exact_sum([0.1] * 10)
    1.0
    """
    return float(ExactSum.of(np.ravel(values)).value()[0])


def _column_total(column: Floats) -> int:
    return sum(_chunk_total(column, start) for start in range(0, len(column), _CHUNK))


def _chunk_total(column: Floats, start: int) -> int:
    """The exact sum of at most `_CHUNK` values from `start` on, in units of ``2^-1074``."""
    values = np.ascontiguousarray(column[start : start + _CHUNK])
    if values[0] == values[-1] and math.isfinite(values[0]) and (values == values[0]).all():
        return len(values) * _units(float(values[0]))  # as the weights of a mean are
    largest = _largest(values)
    if not math.isfinite(largest):
        row = int(np.argmin(np.isfinite(values)))
        raise InvalidInput(f"value {values[row]} of row {start + row} is not finite: look for the example that failed")
    if largest < _HUGE:
        return _total(values.copy(), largest)
    huge = np.abs(values) >= _HUGE  # their sum could overflow: add them scaled down, which is exact so far from 0
    rest, scaled = values[~huge], values[huge] * 2.0**-_DOWN
    return _total(rest, _largest(rest)) + (_total(scaled, _largest(scaled)) << _DOWN)


def _largest(values: Floats) -> float:
    """The largest magnitude; 0 of nothing, and NaN where there is one."""
    return max(float(values.max()), -float(values.min())) if len(values) else 0.0


def _total(left: Floats, largest: float) -> int:
    """The exact sum of values up to `largest`, which are used up: bits from the top down, as many as add without rounding.

    Adding ``1.5 * 2^52`` units and taking them off rounds a value to whole units; what that leaves of it is exact.
    """
    total, part = 0, np.empty_like(left)
    while largest:
        unit = max(math.frexp(largest)[1] - _BITS, -_UNIT)
        anchor = math.ldexp(1.5, 52 + unit)
        np.add(left, anchor, out=part)
        part -= anchor
        total += _units(float(part.sum()))
        left -= part
        largest = _largest(left)
    return total


def _units(value: float) -> int:
    """A double in units of ``2^-1074``, which every double is a multiple of."""
    part, whole = value.as_integer_ratio()
    return part << (_UNIT - (whole.bit_length() - 1))
