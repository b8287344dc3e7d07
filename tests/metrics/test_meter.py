"""The incremental form: the same answer for any batching, order and number of workers, for every task and metric."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from steelyard.errors import InvalidInput
from steelyard.metrics.examples import answers, binary, language, multiclass, multilabel, ranking, regression
from steelyard.metrics.meter import Meter, joined
from steelyard.metrics.rows import STATIC
from steelyard.metrics.table import estimates, find
from steelyard.records import Estimate

QUICK = settings(deadline=None, max_examples=12, suppress_health_check=list(HealthCheck))
MORE = {
    "binary": ("f0.5", "macro_f2", "recall[0]"), "multiclass": ("top2_accuracy", "f2", "precision[1]"),
    "multilabel": ("macro_f2",), "ranking": ("ndcg@3", "recall@2", "precision@2", "mrr@2"),
}  # fmt: skip
GRID = [0.0, 0.005, 0.2, 0.5, 0.501, 0.9, 1.0]  # with ties, both ends and the threshold


@st.composite
def made(draw, task):
    n = draw(st.integers(1, 30))
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    clusters = rng.integers(0, 4, n) if draw(st.booleans()) else None
    if clusters is not None and len(set(clusters)) < 2:
        clusters = None
    labels = rng.integers(0, 3, n)
    grid = rng.choice(GRID, (n, 3))
    if task == "binary":
        return binary(labels > 0, grid[:, 0], clusters=clusters)
    if task == "multiclass":
        return multiclass(labels, rng.choice([0.3, 1.0, 2.0], (n, 3)), outputs="logits", clusters=clusters)
    if task == "multilabel":
        return multilabel(rng.integers(0, 2, (n, 3)), grid, clusters=clusters)
    if task == "regression":
        return regression(rng.normal(size=n).round(1), rng.normal(size=n).round(1), clusters=clusters)
    if task == "ranking":
        return ranking(labels, grid[:, 0], rng.integers(0, 5, n))
    if task == "language":
        return language(np.log(rng.uniform(0.1, 1, n)), labels, clusters=clusters)
    return answers(*(list(rng.choice(["a cat", "cat", "dogs", ""], n)) for _ in range(2)), clusters=clusters)


def pieces(examples, cuts):
    """Parts of the examples; a query's rows stay together."""
    of = np.arange(len(examples)) if examples.queries is None else examples.queries
    parts = [examples.take(of % cuts == part) for part in range(cuts)]
    return [part for part in parts if len(part)]


@pytest.mark.parametrize("task", STATIC)
def test_batching_order_and_workers_change_nothing(task):
    names = (*STATIC[task], *MORE.get(task, ()))

    @QUICK
    @given(made(task), st.integers(1, 6), st.integers(0, 99))
    def check(examples, cuts, seed):
        whole = estimates(examples, names)
        order = np.random.default_rng(seed).permutation(len(examples))
        meters = [Meter(names) for _ in range(1 + seed % 3)]
        for turn, part in enumerate(pieces(examples.take(order), cuts)):
            meters[turn % len(meters)].update(part)
        merged = meters[0]
        for other in meters[1:]:
            merged = other.merge(merged)
        for mine, theirs in zip(whole, merged.compute(), strict=True):
            assert type(mine) is type(theirs)
            assert mine.quantity == theirs.quantity
            if isinstance(mine, Estimate):
                assert theirs.value == mine.value, mine.quantity
                assert (theirs.low, theirs.high) == pytest.approx((mine.low, mine.high), rel=1e-9, abs=1e-9), (
                    mine.quantity
                )
                assert (theirs.n, theirs.method) == (mine.n, mine.method)
            else:
                assert mine.reason == theirs.reason

    check()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("task", STATIC)
def test_no_interval_is_outside_its_range_nan_or_without_width(task):
    names = (*STATIC[task], *MORE.get(task, ()))

    @QUICK
    @given(made(task), st.sampled_from([0.5, 0.95, 0.999]))
    def check(examples, level):
        for got in estimates(examples, names, level):
            if isinstance(got, Estimate):
                row = find(got.quantity, task, examples.classes)
                assert row.low <= got.low <= got.value <= got.high <= row.high, got
                assert got.low < got.high, got

    check()


def test_a_meter_that_saw_nothing_says_so():
    with pytest.raises(InvalidInput, match="no examples yet"):
        Meter(["accuracy"]).compute()


@pytest.mark.parametrize(
    "other",
    [
        regression([1.0], [2.0]),
        multiclass([0], [[0.2, 0.8]], classes=("a", "b")),
        binary([0], [0.5], classes=("no", "yes")),
        binary([0], predicted=[1]),
    ],
)
def test_a_batch_of_another_kind_is_refused(other):
    meter = Meter()
    meter.update(binary([0, 1], [0.2, 0.9]))
    with pytest.raises(InvalidInput, match="does not belong"):
        meter.update(other)


def test_queries_of_two_batches_are_different_queries():
    part = ranking([1, 0], [0.1, 0.9], [0, 0])
    assert joined([part, part]).queries.tolist() == [0, 0, 1, 1]
