"""A gate among the tests of a project: `pytest` fails when the candidate breaks what the baseline kept.

The fixture comes with Steelyard. What it found stands in the JUnit file that `pytest --junit-xml` writes.
"""


def test_release(steelyard_gate):
    """The model of this branch against the one that was released."""
    steelyard_gate(
        baseline="baselines/main.json",
        candidate="runs/pr",
        require=["latency <= 1.05x", "accuracy drop <= 0.5%"],
        data="data/test.npz",
    )


def loop():
    """What was there."""
    return sum(number * number for number in range(20_000))


def formula():
    """What shall replace it."""
    return 19_999 * 20_000 * 39_999 // 6


def test_the_new_way_is_faster(steelyard_gate):
    """Two functions of this file, in fresh processes that take turns."""
    steelyard_gate.faster_than(formula, loop, budget="1m")
