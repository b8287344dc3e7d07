"""Sums that no order, batching or number of workers can change in the last bit.

Each double is cut into the upper and the lower half of its fraction. The halves of values with the same exponent are
added in chunks, where they need fewer than 53 bits, so that floating-point addition is exact; the totals are carried as
Python integers in units of ``2^-1074``. Only :meth:`ExactSum.value` rounds, once and to nearest, as `math.fsum` does.
One accumulator per exponent: Malcolm (1971), Communications of the ACM 14, 731-736.
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
_CHUNK = 1 << 16  # rows at once: stays in cache, and 2^16 halves of at most 27 bits sum to less than 2^53
_UPPER = ~((1 << 27) - 1)  # clears the lower 27 bits of the fraction
_NOT_FINITE = 0x7FF  # the exponent of infinity and NaN
_HUGE = _NOT_FINITE - 20  # 2^16 values under this exponent cannot overflow
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
    exponents = _exponents(values)
    largest = int(exponents.max())
    if largest == _NOT_FINITE:
        row = int(np.argmax(exponents == _NOT_FINITE))
        raise InvalidInput(f"value {values[row]} of row {start + row} is not finite: look for the example that failed")
    if largest < _HUGE:
        return _total(values, exponents)
    huge = exponents >= _HUGE  # their sum could overflow: add them scaled down, which is exact so far from 0
    rest = values[~huge]
    scaled = values[huge] * 2.0**-_DOWN
    return _total(rest, _exponents(rest)) + (_total(scaled, _exponents(scaled)) << _DOWN)


def _exponents(values: Floats) -> NDArray[np.int64]:
    """The biased exponents, 0 to 2047, as they stand in the doubles' bits."""
    return (values.view(np.int64) >> 52) & _NOT_FINITE


def _total(values: Floats, exponents: NDArray[np.int64]) -> int:
    upper = (values.view(np.int64) & _UPPER).view(np.float64)
    sums = (np.bincount(exponents, weights=half) for half in (upper, values - upper))
    return sum(_units(total) for half in sums for total in half[half != 0].tolist())


def _units(value: float) -> int:
    """A double in units of ``2^-1074``, which every double is a multiple of."""
    part, whole = value.as_integer_ratio()
    return part << (_UNIT - (whole.bit_length() - 1))
