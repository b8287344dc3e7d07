"""A small form of each table of `benchmarks/coverage`: intervals hold the truth, within the binomial error of the repeats.

A limit is passed by luck once in ten thousand runs of a method whose coverage is at the edge of the range, and the seeds
are fixed; the first test shows that a method which does not hold is caught.
"""

import numpy as np
import pytest
from benchmarks.coverage import areas, pairs, probabilities, proportions, slices, tables
from benchmarks.coverage.asked import Held
from scipy.stats import binom

LUCK = 1e-4


def least(repeats, coverage=0.94):
    """The fewest intervals that hold, where so many should."""
    return binom.ppf(LUCK, repeats, coverage) / repeats


def most(repeats, coverage=0.96):
    return binom.ppf(1 - LUCK, repeats, coverage) / repeats


def holds(tally: Held, low=0.94, high=0.96):
    return least(tally.repeats, low) <= tally.share <= most(tally.repeats, high)


def rng(seed):
    return np.random.default_rng(seed)


def test_limits_catch_the_plain_bootstrap():
    tallies, plain = tables.table_cells(rng(0), "10 even classes, 99.9 % right", 360, 100)
    assert plain < least(100, 0.8)
    assert tallies[0].share >= least(100)


# --- proportions ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "lowest", "highest"), [(30, 0.89, 0.985), (360, 0.93, 0.975), (1000, 0.939, 0.966)])
def test_accuracy_exactly(n, lowest, highest):
    at = proportions.wilson_coverage(proportions.accuracy_ends(n), n, np.linspace(0.5, 0.99, 491))
    assert lowest <= at.min() <= at.max() <= highest
    assert 0.948 <= at.mean() <= 0.955


def test_recall_at_a_threshold_that_validation_chose():
    tally, met = proportions.recall_at_threshold(rng(1), 500, 500, 0.5, 400)
    assert holds(tally, 0.935, 0.965)
    assert 0.3 < met < 0.6  # what validation just reached is not what is true: hence the interval from test


# --- areas ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("positives", "negatives", "area"), [(50, 50, 0.6), (100, 900, 0.9), (500, 500, 0.95)])
def test_auc(positives, negatives, area):
    tally = areas.auc_cell(rng(positives), areas.binormal, positives, negatives, area, 600)
    assert holds(tally)
    assert not tally.few


@pytest.mark.parametrize("name", areas.SHAPES)
def test_auc_of_shapes_that_no_constant_was_chosen_on(name):
    assert holds(areas.auc_cell(rng(3), areas.SHAPES[name], 100, 400, 0.85, 400), 0.935, 0.965)


def test_auc_says_too_few_where_it_cannot_hold():
    tally = areas.auc_cell(rng(4), areas.binormal, 10, 990, 0.99, 200)
    assert tally.few
    assert tally.share >= least(200)  # on the safe side


@pytest.mark.parametrize("which", range(3))
def test_average_precision(which):
    draw, area, truth = areas.precision_shapes(0.1)[which]
    assert holds(areas.precision_cell(rng(5), 200, 0.1, truth, 120, draw, area), 0.92, 0.98)


@pytest.mark.parametrize("n", [100, 1000])
def test_macro_areas(n):
    for tally in areas.macro_cells(rng(6), n, 0.0, 80):
        assert tally.share >= least(80)


# --- tables -----------------------------------------------------------------------------------------------


def test_means_over_uneven_classes():
    tallies, _ = tables.table_cells(rng(7), "10 classes from 31 to 1 %, 95 to 60 % right", 2000, 100)
    assert [tally.share >= least(100, 0.93) for tally in tallies] == [True] * len(tables.NAMES)
    assert tallies[tables.NAMES.index("mcc")].share <= most(100, 0.965)


def test_clusters():
    for tally in tables.clustered_cells(rng(8), 100, 10, 100):
        assert holds(tally, 0.92, 0.97)


@pytest.mark.parametrize("mixed", [False, True])
def test_auc_over_clusters(mixed):
    assert holds(areas.clustered_auc_cell(rng(9), 100, 10, mixed=mixed, repeats=300), 0.92, 0.97)


# --- probabilities ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("classes", [2, 10])
def test_calibration_error_brier_score_and_log_loss(classes):
    model = probabilities.Believed(classes=classes, a=1.0, b=1.0, curve="over-confident")
    for tally in probabilities.probability_cells(rng(10), model, 1000, 200):
        assert holds(tally, 0.93, 0.975)


# --- two models ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "b", "c"), [(360, 0.03, 0.02), (1000, 0.01, 0.005)])
def test_drop_of_accuracy(n, b, c):
    tally = pairs.accuracy_drops(rng(11), n, b, c, 2000)
    assert holds(tally)
    assert tally.falsely_safe <= most(2000, 0.03)


def test_drop_of_accuracy_where_nothing_changes_stays_open():
    tally = pairs.accuracy_drops(rng(12), 360, 0.0, 0.0, 10)
    assert (tally.share, round(tally.half, 4)) == (1.0, 0.0106)


def test_drop_of_macro_f1():
    tally = pairs.macro_f1_drops(rng(13), "10 even classes, 97 % right", 0.05, 2000, 80)
    assert tally.share >= least(80)
    assert tally.falsely_safe <= most(80, 0.03)


def test_drops_of_areas():
    for tally in pairs.area_drops(rng(14), 1000, 0.1, (2.0, 1.5), 0.5, 150):
        assert tally.share >= least(150, 0.93)
        assert tally.falsely_safe <= most(150, 0.04)


def test_drop_of_log_loss():
    _, tally = pairs.probability_drops(rng(15), "calibrated", "over", 1000, 1, 400)
    assert holds(tally)
    assert tally.falsely_safe <= most(400, 0.035)


# --- slices -------------------------------------------------------------------------------------------------


def test_fifty_slices_raise_no_false_alarm_and_a_planted_one_is_found():
    false, _ = slices.alarms(rng(16), 2500, 0.8, 0.0, 60)  # from 0.9 on there are more than promised: see the table
    _, found = slices.alarms(rng(17), 2500, 0.9, 0.4, 8)
    assert false <= most(60, 0.05)
    assert found == 1.0
