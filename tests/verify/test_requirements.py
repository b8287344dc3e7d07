"""What may be asked, in which words, and what is said of words that ask for nothing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steelyard.errors import InvalidInput
from steelyard.verify.requirements import COSTS, QUANTITIES, parse_requirement

EXAMPLES = "'accuracy drop <= 0.5%', 'latency <= 0.3x', 'p99 <= 35 ms', 'size <= 10 MB' or 'accuracy >= 0.9'"


@pytest.mark.parametrize(
    ("text", "quantity", "kind", "limit"),
    [
        ("accuracy drop <= 0.5%", "accuracy", "max_drop", 0.005),
        ("accuracy drop <= 0.5 points", "accuracy", "max_drop", 0.005),
        ("accuracy drop<=0.01", "accuracy", "max_drop", 0.01),
        ("accuracy >= 0.9", "accuracy", "min", 0.9),
        ("Accuracy >= 90 %", "accuracy", "min", 0.9),
        ("f1 drop < 1%", "f1", "max_drop", 0.01),
        ("recall >= 80%", "recall", "min", 0.8),
        ("log-loss <= 0.4", "log_loss", "max", 0.4),
        ("mean_cost[fp=1,fn=20] <= 0.4", "mean_cost[fp=1,fn=20]", "max", 0.4),
        ("latency <= 0.3x", "latency", "max_ratio", 0.3),
        ("LATENCY <= 0.3X", "latency", "max_ratio", 0.3),
        ("latency<=3ms", "latency", "max", 0.003),
        ("p99 <= 35 ms", "p99", "max", 0.035),
        ("p99.9 ≤ 1 s", "p99.9", "max", 1.0),
        ("p50 <= 900 us", "p50", "max", 9e-4),
        ("p50 <= 900 \u00b5s", "p50", "max", 9e-4),
        ("p50 <= 900 \u03bcs", "p50", "max", 9e-4),
        ("size <= 10 MB", "size", "max", 1e7),
        ("size <= 10 MiB", "size", "max", 10 * 2**20),
        ("size <= 0.25x", "size", "max_ratio", 0.25),
        ("memory <= 1.5 GB", "memory", "max", 1.5e9),
        ("energy <= 3 mJ", "energy", "max", 0.003),
        ("throughput >= 2x", "throughput", "min_ratio", 2.0),
        ("throughput >= 500 /s", "throughput", "min", 500.0),
        ("throughput >= 500", "throughput", "min", 500.0),
        ("latency <= 1e-3 s", "latency", "max", 1e-3),
    ],
)
def test_what_may_be_asked(text, quantity, kind, limit):
    found = parse_requirement(text)
    assert (found.quantity, found.kind) == (quantity, kind)
    assert found.limit == pytest.approx(limit, rel=1e-12)


def test_the_words_are_kept_with_single_spaces():
    assert parse_requirement("  latency   <=  0.3x ").text == "latency <= 0.3x"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("latency < fast", f"cannot read the requirement 'latency < fast': write it like {EXAMPLES}"),
        ("", f"cannot read the requirement '': write it like {EXAMPLES}"),
        ("latency", f"cannot read the requirement 'latency': write it like {EXAMPLES}"),
        ("latency == 3 ms", f"cannot read the requirement 'latency == 3 ms': write it like {EXAMPLES}"),
        ("accuracy drop <= -1%", f"cannot read the requirement 'accuracy drop <= -1%': write it like {EXAMPLES}"),
        ("latency <= 1.2.3 ms", "cannot read the number '1.2.3' in the requirement 'latency <= 1.2.3 ms'"),
        ("latency <= 1e999 s", "the number '1e999' in the requirement 'latency <= 1e999 s' is no limit"),
        ("latancy <= 3 ms", "the requirement 'latancy <= 3 ms' names an unknown quantity 'latancy'; did you mean 'latency'?"),
        ("acuracy drop <= 1%", "the requirement 'acuracy drop <= 1%' names an unknown quantity 'acuracy'; did you mean 'accuracy'?"),
        ("zzz <= 1", f"the requirement 'zzz <= 1' names an unknown quantity 'zzz'; known: {', '.join(QUANTITIES)}, mean_cost[fp=1,fn=20]"),
        ("mean_cost <= 1", "the requirement 'mean_cost <= 1' names an unknown quantity 'mean_cost'; did you mean 'mean_cost[fp=1,fn=20]'?"),
        ("latency <= 3 parsecs", "the requirement 'latency <= 3 parsecs' has an unknown unit 'parsecs'; known: %, x, ms, s, kB, MB, GB, J, mJ, /s"),
        ("latency <= 3 MB", "the requirement 'latency <= 3 MB' needs a unit of latency: s (or x for a ratio to the baseline)"),
        ("p99 <= 35", "the requirement 'p99 <= 35' needs a unit of p99: s (or x for a ratio to the baseline)"),
        ("size <= 50%", "the requirement 'size <= 50%' needs a unit of size: byte (or x for a ratio to the baseline)"),
        ("accuracy >= 3 ms", "the requirement 'accuracy >= 3 ms': accuracy is a fraction; write it as 0.9, 90% or 'drop <= 0.5%'"),
        ("accuracy >= 90", "the requirement 'accuracy >= 90' asks for 90, and accuracy lies within 0 to 1: did you mean 90%?"),
        ("accuracy drop <= 5", "the requirement 'accuracy drop <= 5' asks for 5, and accuracy lies within 0 to 1: did you mean 5%?"),
        ("latency >= 3 ms", "the requirement 'latency >= 3 ms' would ask for a worse model: write latency <= ..."),
        ("throughput <= 2x", "the requirement 'throughput <= 2x' would ask for a worse model: write throughput >= ..."),
        ("accuracy <= 0.9", "the requirement 'accuracy <= 0.9' would ask for a worse model: write accuracy >= ... or accuracy drop <= ..."),
        ("accuracy drop >= 1%", "the requirement 'accuracy drop >= 1%' would ask for a worse model: write accuracy drop <= ..."),
        ("log_loss >= 1", "the requirement 'log_loss >= 1' would ask for a worse model: write log_loss <= ... or log_loss drop <= ..."),
        (
            "latency drop <= 3 ms",
            "the requirement 'latency drop <= 3 ms': a drop is of quality; for latency write 'latency <= 0.5x' or an absolute limit",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_asked(text, message):
    with pytest.raises(InvalidInput) as refused:
        parse_requirement(text)
    assert str(refused.value) == message


@pytest.mark.parametrize("quantity", sorted(COSTS))
def test_every_cost_may_be_asked_as_a_ratio(quantity):
    sign = ">=" if quantity == "throughput" else "<="
    assert parse_requirement(f"{quantity} {sign} 0.5x").limit == 0.5


@given(st.text(max_size=40))
def test_any_words_are_read_or_refused(text):
    try:
        found = parse_requirement(text)
    except InvalidInput:
        return
    assert found.quantity in QUANTITIES
    assert 0 <= found.limit < float("inf")
