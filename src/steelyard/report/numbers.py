"""Numbers as people read them: three significant digits, SI units, intervals in the unit of their value."""

from __future__ import annotations

import math

__all__ = ["change", "fixed", "interval", "p_value", "points", "quantity", "ratio", "seconds", "significant", "size"]

_TIME = ((60.0, "min"), (1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns"))
_SI = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""))
_BYTES = ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1.0, "B"))
_ENERGY = ((3.6e6, "kWh"), (1e3, "kJ"), (1.0, "J"), (1e-3, "mJ"), (1e-6, "µJ"))

_CARBON = tuple(
    (scale, f"{name} CO2e")
    for scale, name in ((1e6, "t"), (1e3, "kg"), (1.0, "g"), (1e-3, "mg"), (1e-6, "µg"), (1e-9, "ng"))
)

_SCALES: dict[str, tuple[tuple[float, str], ...]] = {
    "s": _TIME,
    "byte": _BYTES,
    "J": _ENERGY,
    "W": ((1e3, "kW"), (1.0, "W"), (1e-3, "mW")),
    "gCO2e": _CARBON,
    "1/J": tuple((scale, f"{prefix}/J") for scale, prefix in _SI),
    "count": _SI,
    "MAC": tuple((scale, f"{prefix}MAC") for scale, prefix in _SI),
    "FLOP": tuple((scale, f"{prefix}FLOP") for scale, prefix in _SI),
    "FLOP/s": tuple((scale, f"{prefix}FLOP/s") for scale, prefix in _SI),
    "byte/s": tuple((scale, f"{name}/s") for scale, name in _BYTES),
    "1/s": tuple((scale, f"{prefix}/s") for scale, prefix in _SI),
    "Hz": tuple((scale, f"{prefix}Hz") for scale, prefix in _SI),
    "fraction": ((0.01, "%"),),
    "ratio": ((1.0, "x"),),
}
_SAME_UNIT = {
    "bytes": "byte",
    "B": "byte",
    "x": "ratio",
    "MACs": "MAC",
    "bytes/s": "byte/s",
    "B/s": "byte/s",
    "examples/s": "1/s",
    "samples/s": "1/s",
    "inferences/s": "1/s",
    "": "count",
}
_TIGHT = ("x", "/s")  # set without a space before them


def significant(value: float, digits: int = 3) -> str:
    """`value` to so many significant digits, never in exponent form.

    >>> significant(1234.6), significant(0.012345), significant(9.996), significant(0)
    ('1,235', '0.0123', '10.0', '0')
    """
    return fixed(value, _decimals(value, digits)) if value else "0"


def fixed(value: float, decimals: int) -> str:
    """`value` with so many decimals and no negative zero.

    >>> fixed(-0.0004, 2), fixed(12345.678, 1)
    ('0.00', '12,345.7')
    """
    if not math.isfinite(value):
        return "unbounded" if math.isinf(value) else "undefined"
    return f"{round(value, decimals) + 0.0:,.{decimals}f}"


def seconds(value: float) -> str:
    """A duration.

    >>> seconds(0.00123456), seconds(4.2e-8), seconds(75), seconds(12)
    ('1.23 ms', '42.0 ns', '1.25 min', '12.0 s')
    """
    return quantity(value, "s")


def size(value: float) -> str:
    """Bytes in SI units.

    >>> size(10_400_000), size(512), size(0)
    ('10.4 MB', '512 B', '0 B')
    """
    return quantity(value, "byte")


def ratio(value: float, low: float | None = None, high: float | None = None) -> str:
    """A ratio, with its interval where there is one.

    >>> ratio(0.214, 0.208, 0.2209), ratio(0.214)
    ('0.214x (0.208-0.221)', '0.214x')
    """
    return quantity(value, "ratio") if low is None or high is None else interval(value, low, high, "ratio")


def points(value: float, low: float | None = None, high: float | None = None) -> str:
    """A difference of fractions in percentage points.

    >>> points(0.0012), points(0.0012, -0.0005, 0.0029)
    ('0.12 points', '0.12 points (-0.05 to 0.29)')
    """
    shown = f"{fixed(value * 100, 2)} points"
    return shown if low is None or high is None else f"{shown} ({_span(low * 100, high * 100, 2)})"


def quantity(value: float, unit: str) -> str:
    """One value in the scale of its unit that reads best.

    >>> quantity(0.987, "fraction"), quantity(2.5e9, "FLOP/s"), quantity(1077, "1/s"), quantity(12, "widgets")
    ('98.7 %', '2.50 GFLOP/s', '1.08 k/s', '12.0 widgets')
    >>> quantity(64, "count"), quantity(11_173_962, "count")
    ('64', '11.2 M')
    >>> quantity(0.99996, "fraction"), quantity(1.0, "fraction")  # what is not all is not written as all
    ('99.996 %', '100 %')
    """
    scale, name = _scale(value, unit)
    if _whole(value, unit, scale):
        return _joined(f"{value:,.0f}", name)
    near = _decimals_short_of_all(value) if unit == "fraction" else 0
    return _joined(fixed(value / scale, near) if near > 1 else significant(value / scale), name)


def interval(value: float, low: float, high: float, unit: str) -> str:
    """A value and its interval, in one unit and with the same decimals.

    >>> interval(0.0123, 0.0121, 0.01262, "s"), interval(0.987, 0.9712, 0.9951, "fraction")
    ('12.3 ms (12.1-12.6)', '98.7 % (97.1-99.5)')
    >>> interval(11.4e6, 11.4e6, 11.4e6, "byte"), interval(0.5, 0.0, math.inf, "ratio")  # exact; nothing known
    ('11.4 MB', '0.500x (no bound)')
    >>> interval(1.0, 0.9963, 1.0, "fraction"), interval(0.9996, 0.9991, 0.99985, "fraction")
    ('100.0 % (99.6-100.0)', '99.96 % (99.91-99.98)')
    """
    if low == value == high:
        return quantity(value, unit)
    if low <= 0 and math.isinf(high):
        return f"{quantity(value, unit)} (no bound)"
    scale, name = _scale(value, unit)
    decimals = 0 if _whole(value, unit, scale) else _decimals(value / scale, 3)
    if unit == "fraction":
        decimals = max(decimals, _decimals_short_of_all(value), _decimals_short_of_all(low))
    span = _span(low / scale, high / scale, decimals)
    return f"{_joined(fixed(value / scale, decimals), name)} ({span})"


def p_value(p: float) -> str:
    """A p-value; below a thousandth its digits say nothing.

    >>> p_value(0.0341), p_value(3e-7), p_value(0.99999)
    ('0.034', '<0.001', '1.0')
    """
    return "<0.001" if p < 0.001 else significant(min(p, 1.0), 2)


def change(before: float, after: float, less: str = "less", more: str = "more") -> str:
    """A change as a factor of at least one, with the word for its direction.

    >>> change(44.8e6, 11.3e6, "smaller", "larger"), change(2, 5), change(7, 7), change(0, 5)
    ('3.96x smaller', '2.50x more', 'same', '')
    """
    if not (before > 0 and after > 0):
        return ""
    if abs(after / before - 1) < 5e-3:
        return "same"
    return f"{significant(before / after)}x {less}" if after < before else f"{significant(after / before)}x {more}"


def _scale(value: float, unit: str) -> tuple[float, str]:
    scales = _SCALES.get(_SAME_UNIT.get(unit, unit), ((1.0, unit),))
    if not value:
        return next(((s, n) for s, n in scales if s == 1.0), scales[-1])
    return next(((s, n) for s, n in scales if abs(value) >= s * 0.9995), scales[-1])


def _whole(value: float, unit: str, scale: float) -> bool:
    return scale == 1.0 and _SAME_UNIT.get(unit, unit) in ("count", "byte", "MAC") and float(value).is_integer()


def _joined(shown: str, name: str) -> str:
    return f"{shown}{name}" if name in _TIGHT or not name else f"{shown} {name}"


def _decimals(value: float, digits: int) -> int:
    if not value or not math.isfinite(value):
        return digits - 1
    exponent = math.floor(math.log10(float(f"{abs(value):.{digits - 1}e}")))
    return max(0, digits - 1 - exponent)


def _decimals_short_of_all(share: float) -> int:
    """Decimals of per cent, at most 6, at which a share under 1 is not rounded to 100 %; 0 for all others."""
    left = 100 * (1 - share)
    if not 0 < left < 1:
        return 0
    return min(6, max(0, math.floor(math.log10(0.5 / left)) + 1))


def _span(low: float, high: float, decimals: int) -> str:
    joint = " to " if low < 0 or not math.isfinite(high) else "-"
    return f"{fixed(low, decimals)}{joint}{fixed(high, decimals)}"
