import dataclasses
import re

import numpy as np
import pytest

from steelyard.diagnose.training import diagnose_training
from steelyard.records import Watched, decode, encode
from steelyard.report import training, training_charts
from steelyard.report.training_charts import CHARTS, Told
from steelyard.report.training_page import render_training
from steelyard.report.windows import rendered
from steelyard.stats.proportion import wilson
from watched_training import reading, watched, with_phases, with_reading


def told(found: Watched, **words):
    return Told(watched=found, findings=diagnose_training(found), **words)


RUNS = [told(watched(seed=i), name=f"seed {i}", group="plain") for i in range(3)]
BOUND = told(with_phases(watched(), data=0.02), name="slow data")


def test_the_record_comes_back_whole():
    found = decode(encode(watched()))
    assert found.phases_s == pytest.approx(watched().phases_s)
    assert found.scores["validation"] == pytest.approx(watched().scores["validation"])
    assert found.loader == {"num_workers": 0}


def test_parts_of_a_step_add_up_to_it():
    found = watched()
    parts = training.breakdown(found)
    assert sum(part.share for part in parts) == pytest.approx(1)
    assert sum(part.seconds for part in parts) == pytest.approx(
        training.step_seconds(found)[training.warm(found)].mean()
    )
    assert "communication" not in {part.phase for part in parts}


def test_the_loss_of_an_epoch_counts_every_example_once():
    found = watched(steps=4, per_epoch=2, loss=np.array([1.0, 3.0, 2.0, 2.0]), examples=np.array([30, 10, 5, 5]))
    assert training.epoch_loss(found).tolist() == [1.5, 2.0]


def test_examples_per_second_are_of_warm_steps():
    spent = np.zeros((100, 6))
    spent[:, 1] = 0.1
    spent[:10, 1] = 50.0
    found = dataclasses.replace(watched(steps=100, per_epoch=10), phases_s=spent)
    assert training.examples_per_s(found) == pytest.approx(640)


def test_the_goal_is_reached_when_the_interval_is_above_it_not_the_score():
    scores = np.array([0.80, 0.86, 0.88, 0.90, 0.91, 0.92, 0.93, 0.94, 0.95, 0.96])
    found = watched(scores={"validation": scores}, score_examples=500)
    by_interval = training.goal(found, 0.85)
    lows = [wilson(s * 500, 500)[0] for s in scores]
    assert by_interval.reached
    assert by_interval.epoch == int(np.argmax(np.array(lows) >= 0.85)) == 3
    by_score = training.goal(dataclasses.replace(found, score_examples=0), 0.85)
    assert by_score.epoch == 1
    assert (by_interval.by, by_score.by) == ("the interval's lower end", "the score itself")
    assert by_interval.steps == 48
    spent = training.step_seconds(found)[:48].sum() + 4 * 0.01
    assert by_interval.seconds == pytest.approx(spent)
    assert by_interval.energy_j == pytest.approx((20.0, 0.4 * 41, 0.4 * 59))  # four epochs of ten


def test_a_goal_that_is_never_reached_is_censored_at_the_end():
    found = training.goal(watched(), 0.999)
    assert not found.reached
    assert found.steps == 120
    assert "censored" in dict(training.training_rows(watched(), 0.999))["Quality of 0.999"]


def test_time_to_a_quality_over_seeds_counts_those_that_never_got_there():
    def reaching(epoch):
        scores = np.where(np.arange(10) >= epoch, 0.99, 0.5)
        return watched(
            scores={"validation": scores}, score_examples=0, phases_s=np.full((120, 6), 1 / 6), outside_s=np.zeros(10)
        )

    found = training.time_to([reaching(1), reaching(3), reaching(99)], 0.9)
    assert found.value == pytest.approx((24 + 48 + 120) / 3)
    assert "1 of 3 censored" in found.method
    assert training.time_to([watched(scores={})], 0.9) is None


def test_the_loss_is_stable_from_its_change_point_on_or_never():
    loss = np.concatenate([np.linspace(2, 1, 30), np.full(90, 1.0)]) * np.random.default_rng(0).lognormal(0, 0.01, 120)
    assert 20 <= training.settled(watched(loss=loss)) <= 36
    assert training.settled(watched(loss=np.linspace(2, 0, 120))) is None
    assert training.settled(watched(loss=np.where(np.arange(120) == 60, np.nan, 1.0))) is None


def test_tables_say_values_gaps_and_what_to_try():
    shown = rendered(training.training_table(BOUND.watched, 0.9))
    assert "Step: data" in shown
    assert "4.00 MB" in shown
    assert "not finite" in rendered(training.training_table(watched(loss=np.full(120, np.nan))))
    assert "num_workers" in rendered(training.findings_table(BOUND.findings))
    assert training.findings_table(()) is None


@pytest.mark.parametrize("runs", [RUNS[:1], [*RUNS, BOUND]], ids=["one", "several"])
def test_every_chart_keeps_to_the_schema(runs):
    drawn = {name: draw(runs) for name, draw in CHARTS.items()}
    for chart in drawn.values():
        if chart is not None:
            chart.to_dict()
    assert drawn["losses"] is not None
    assert drawn["steps"] is not None
    assert (drawn["seeds"] is None) == (len(runs) == 1)
    assert drawn["finder"] is None


def test_bars_are_the_seconds_and_bytes_of_the_record():
    (bars,) = training_charts.steps([BOUND]).to_dict()["datasets"].values()
    assert {row["part"]: row["size"] for row in bars}["data"] == pytest.approx(20)
    (stack,) = training_charts.memory(RUNS[:1]).to_dict()["datasets"].values()
    assert sum(row["size"] for row in stack) == pytest.approx(46)


def test_long_curves_are_joined_by_their_means():
    at, joined = training_charts._joined(np.arange(1000.0))
    assert len(joined) <= 300
    assert joined[0] == pytest.approx(np.arange(4).mean())
    assert at[-1] == 1000


def test_the_page_holds_findings_numbers_and_no_address():
    page = render_training([BOUND])
    assert "data bound" in page
    assert "67.7" in page or "DataLoader(num_workers" in page
    outside = re.sub(r"<script.*?</script>", "", page, flags=re.S)
    assert "http://" not in outside.replace("http://www.w3.org", "")
    assert "nothing found amiss" in render_training(RUNS[:1])


def test_a_page_of_several_puts_them_side_by_side():
    page = render_training([*RUNS, BOUND])
    assert "4 trainings side by side" in page
    assert "slow data" in page
    assert "Over seeds" in page
    aimed = [dataclasses.replace(told, watched=dataclasses.replace(told.watched, target=0.9)) for told in RUNS]
    assert "Kaplan-Meier" in render_training(aimed)


def test_a_training_that_told_little_still_has_a_page():
    bare = Watched(
        name="bare", environment=watched().environment, version="0", phases=watched().phases, phases_s=np.ones((2, 6)),
        loss=np.array([1.0, np.nan]), learning_rate=np.full(2, np.nan), examples=np.ones(2, dtype=np.int64),
    )  # fmt: skip
    assert "The loss ran away" in render_training([told(bare)])
    none = np.zeros(0)
    gone = {"phases_s": np.zeros((0, 6)), "loss": none, "learning_rate": none, "examples": none.astype(np.int64)}
    empty = dataclasses.replace(bare, **gone)
    assert "0 steps" in render_training([told(empty)])
    assert with_reading(bare, "x", 1.0).readings[0].value == reading("x", 1.0).value
