"""Power by a model fitted to this machine's own counter: a non-negative linear model of what runs.

``W = rest + sum(coefficient * rate)``, where a rate is what `EnergyCalibration` recorded: busy cores, their clock, bytes
moved and multiply-adds a second. It is worth as much as its error on kinds of load that it was not fitted to, and that
error is the spread that every use of it carries. It knows what the counter knew: packages and memory, without power
supply, fans and cooling.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from steelyard.probe.energy.model import error_sigma
from steelyard.records import EnergyCalibration, Floats, Sample
from steelyard.stats.nonnegative import fit_relative, held_out_errors

__all__ = ["PowerModel", "calibrated_power_w", "fit_power"]

REST = "rest"  # the column of ones: what the machine draws whatever runs


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerModel:
    """Coefficients by column (watts for one of its unit) and the error on unseen kinds of load."""

    coefficients: Mapping[str, float]
    errors: Mapping[str, float]  # mean absolute relative error of each kind, left out of the fit

    @property
    def error(self) -> float:
        """Mean absolute relative error on unseen kinds, every kind counting alike."""
        return float(np.mean(list(self.errors.values())))

    def watts(self, rates: Mapping[str, float]) -> float:
        """Power while this runs; a rate that is not given is 0."""
        return sum(value * (1.0 if name == REST else rates.get(name, 0.0)) for name, value in self.coefficients.items())


def fit_power(calibration: EnergyCalibration, known: Sequence[str] | None = None) -> PowerModel:
    """The model of the `known` columns (all, unless given), or of busy cores alone where the others only overfit.

    Of the two, the one that errs less on unseen kinds is taken: a column that does not carry over to new kinds of load is
    not used. Raises `InvalidInput` for fewer than two kinds of load.
    """
    wanted = [name for name in calibration.columns if known is None or name in known]
    models = [_fitted(calibration, names) for names in ([n for n in wanted if n == "busy_cores"], wanted)]
    return min(models, key=lambda model: model.error)


def calibrated_power_w(
    calibration: EnergyCalibration, rates: Mapping[str, float], draws: int = 4000, seed: int = 0
) -> Sample:
    """Draws of the power in watts: the fitted value times a log-normal of median 1 with the held-out error.

    Equal seeds give equal errors, so that two runs on one machine share them, as with the modelled power.
    """
    model = fit_power(calibration, tuple(rates))
    error = np.exp(error_sigma(model.error) * np.random.default_rng([seed, 4]).standard_normal(draws))
    return Sample(
        quantity="power_w",
        unit="W",
        values=model.watts(rates) * error,
        provenance="calibrated",
        note=_note(calibration, model),
    )


def _fitted(calibration: EnergyCalibration, names: Sequence[str]) -> PowerModel:
    columns = _columns(calibration, names)
    found = fit_relative(columns, calibration.watts)
    return PowerModel(
        coefficients=dict(zip((REST, *names), found.tolist(), strict=True)),
        errors=held_out_errors(columns, calibration.watts, calibration.kinds),
    )


def _columns(calibration: EnergyCalibration, names: Sequence[str]) -> Floats:
    places = [calibration.columns.index(name) for name in names]
    return np.column_stack([np.ones(len(calibration.watts)), calibration.rates[:, places]])


def _note(calibration: EnergyCalibration, model: PowerModel) -> str:
    used = ", ".join(name.replace("_", " ") for name in model.coefficients if name != REST)
    return (
        f"calibrated on this machine's {calibration.source} ({calibration.time[:10]}) by {used}; on kinds of load it "
        f"had not seen it missed by {model.error:.0%} on average; without power supply and cooling"
    )
