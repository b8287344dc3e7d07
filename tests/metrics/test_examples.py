"""What makes examples: checked once at the door, with the example, the value and the cure."""

import numpy as np
import pytest
from scipy.special import expit, softmax

from steelyard.errors import InvalidInput
from steelyard.metrics import examples as e
from steelyard.records import Predictions


def test_logits_and_probabilities_are_the_same_examples():
    rng = np.random.default_rng(0)
    labels, logits = rng.integers(0, 2, 50), rng.normal(0, 3, 50)
    one, other = e.binary(labels, logits, outputs="logits"), e.binary(labels, expit(logits))
    assert one.scores == pytest.approx(other.scores)
    assert (one.predicted == other.predicted).all()
    table, true = rng.normal(0, 3, (50, 4)), rng.integers(0, 4, 50)
    one, other = e.multiclass(true, table, outputs="logits"), e.multiclass(true, softmax(table, axis=1))
    assert one.scores == pytest.approx(other.scores)
    assert (one.predicted == table.argmax(axis=1)).all()


def test_a_score_at_the_threshold_is_positive():
    assert e.binary([0, 0, 1], [0.5, 0.49, 0.51]).predicted.tolist() == [1, 0, 1]
    assert e.binary([0, 0, 1], [0.5, 0.49, 0.51], threshold=0.505).predicted.tolist() == [0, 0, 1]
    assert e.multilabel([[0, 1]], [[0.5, 0.4]], threshold=0.4).predicted.tolist() == [[1, 1]]


def test_given_predictions_win_and_ties_go_to_the_lower_class():
    assert e.binary([0, 1], [0.9, 0.9], predicted=[0, 0]).predicted.tolist() == [0, 0]
    assert e.multiclass([0], [[0.4, 0.4, 0.2]]).predicted.tolist() == [0]


def test_taking_rows_takes_them_of_everything():
    made = e.ranking([1, 0, 2], [0.1, 0.2, 0.3], ["b", "a", "a"], clusters=np.array([5, 6, 7]))
    part = made.take(np.array([2, 0]))
    assert (part.labels.tolist(), part.queries.tolist(), part.clusters.tolist()) == ([2, 1], [0, 1], [7, 5])
    assert len(made.take(made.labels > 0)) == 2


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: e.binary([0, 2], [0.1, 0.2]), "2"),
        (lambda: e.binary([0, 1], [0.1, 1.5]), "score 1.5 of example 1 is not a probability"),
        (lambda: e.binary([0, 1], [-0.1, 0.5]), "score -0.1 of example 0 is not a probability"),
        (lambda: e.binary([0, 1], [0.1, np.nan]), "score nan of example 1 is not a finite number"),
        (lambda: e.binary([0, 1], [0.1]), "2 labels but 1"),
        (lambda: e.binary([0, 1], [[0.1], [0.2]]), "shape"),
        (lambda: e.binary([0, 1]), "need scores or predicted"),
        (lambda: e.binary([], []), "non-empty|no |empty"),
        (lambda: e.binary([0, 1], predicted=[0]), "2 labels but 1"),
        (lambda: e.multiclass([0, 1], [[0.5, 0.4], [0.5, 0.5]]), "0"),
        (lambda: e.multiclass([0, 1], [[0.5, 0.6], [0.5, 0.5]]), "0"),
        (lambda: e.multiclass([0, 1], [[0.5, np.inf], [0.5, 0.5]]), "0"),
        (lambda: e.multiclass([0, 5], [[0.5, 0.5], [0.5, 0.5]]), "5"),
        (lambda: e.multiclass([0, 1], [[0.5, 0.5], [0.5, 0.5]], classes=("a", "b", "c")), "2 columns of scores for 3"),
        (lambda: e.multiclass([0, 1]), "need scores or predicted"),
        (lambda: e.multiclass([0], [[1.0]], outputs="scores"), "two or more classes"),
        (lambda: e.multilabel([[0, 2]], [[0.1, 0.2]]), "label 2 of example 0, column 1 is neither 0 nor 1"),
        (lambda: e.multilabel([[0, 1]], [[0.1]]), r"labels have shape \(1, 2\)"),
        (lambda: e.multilabel([0, 1], [0.1, 0.2]), "one column per class"),
        (lambda: e.regression([1.0, 2.0], [1.0, np.inf]), "prediction inf of example 1"),
        (lambda: e.regression([1.0, 2.0], [1.0]), "2 labels but 1"),
        (lambda: e.regression([1e71, 2.0], [1.0, 2.0]), r"target 1e\+71 of example 0 is beyond 1e\+70"),
        (lambda: e.ranking([1, -1], [1, 2], [0, 0]), "relevance -1 of row 1 is below 0"),
        (lambda: e.ranking([1, 1], [1, 2], [0]), "2 labels but 1"),
        (lambda: e.language([-1.0], [1.0, 2.0]), "2 labels but 1"),
        (lambda: e.answers(["a"], ["a", "b"]), "1 labels but 2"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(make, message):
    with pytest.raises(InvalidInput, match=message) as said:
        make()
    assert "\n" not in str(said.value)


@pytest.mark.filterwarnings("error")
def test_numbers_at_the_edge_of_what_is_allowed():
    made = e.regression([1e70, -1e70], [-1e70, 1e70])
    from steelyard.metrics.table import estimates

    assert [round(s.value / 1e70, 6) for s in estimates(made, ["mae", "rmse"])] == [2.0, 2.0]
    sums = e.binary([0, 1], [1e308, 1.7e308], outputs="scores")
    assert estimates(sums, ["roc_auc"])[0].value == 1.0


@pytest.mark.filterwarnings("error")
def test_logits_as_large_as_doubles_are_certain():
    made = e.multiclass([0, 1], [[1.7e308, -1.7e308], [-1e308, 0.0]], outputs="logits")
    assert made.scores.tolist() == [[1, 0], [0, 1]]


def test_recorded_predictions_of_two_classes_are_binary():
    labels = np.array([0, 1, 1], np.int32)
    made = e.from_predictions(
        Predictions(
            split="test", labels=labels, predicted=labels, p_true=np.array([0.9, 0.8, 0.3], np.float32), classes=2
        )
    )
    assert made.task == "binary"
    assert made.scores == pytest.approx([0.1, 0.8, 0.3])
