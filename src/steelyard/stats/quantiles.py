"""Two-sided critical values, with the level checked once."""

from __future__ import annotations

from scipy.special import ndtri, stdtrit

from steelyard.errors import InvalidInput

__all__ = ["normal_critical", "t_critical", "tail"]


def tail(level: float) -> float:
    """The probability left in each tail by a two-sided interval at `level`.

    >>> round(tail(0.95), 3)
    0.025
    """
    if not 0 < level < 1:
        raise InvalidInput(f"a confidence level lies between 0 and 1, such as 0.95; got {level}")
    return (1 - level) / 2


def normal_critical(level: float) -> float:
    """The half-width of a two-sided normal interval at `level`, in standard errors.

    >>> round(normal_critical(0.95), 4)
    1.96
    """
    return float(-ndtri(tail(level)))


def t_critical(level: float, degrees: float) -> float:
    """The half-width of a two-sided t interval with `degrees` of freedom, in standard errors.

    >>> round(t_critical(0.95, 9), 4)
    2.2622
    """
    return float(-stdtrit(degrees, tail(level)))
