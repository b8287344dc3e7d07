"""Records survive the way to disk and back, and what is not a record is refused."""

import base64
import dataclasses
import json
import math
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from steelyard import records as r
from steelyard.errors import InvalidInput, SchemaTooNew
from steelyard.records import decode, encode

FIXTURE = Path(__file__).parent / "fixtures" / "records-schema-1.jsonl"


def same(a, b):
    """Equality that looks into arrays and takes NaN for NaN."""
    if isinstance(a, np.ndarray):
        return isinstance(b, np.ndarray) and a.dtype == b.dtype and np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
    if dataclasses.is_dataclass(a):
        return type(a) is type(b) and all(same(getattr(a, f.name), getattr(b, f.name)) for f in dataclasses.fields(a))
    if isinstance(a, Mapping):
        return isinstance(b, Mapping) and a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, tuple):
        return isinstance(b, tuple) and len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, float) and math.isnan(a):
        return isinstance(b, float) and math.isnan(b)
    return type(a) is type(b) and a == b


def examples(schema=2):
    """One of every record type, with every optional field filled; of schema 1, what that one knew."""
    near = {"kind": "near", "pairs": ((0, 7), (5, 1)), "method": "MinHash"} if schema > 1 else {}
    scores = {"scores": np.array([[0.9, 0.1], [0.75, 0.25]], dtype=np.float32)} if schema > 1 else {}
    spec = r.SubjectSpec(source="m.py:net", data="digits", weights="w.pt", seed=3, options={"size": 8, "type": "x"})
    contract = r.Contract(
        shape=(3, 8, 8), scale=1 / 255, mean=(0.1, 0.2, 0.3), std=(1.0, 2.0, 3.0), resize="stretch", labels=("a", "b")
    )
    overlap = r.Overlap(split="test", other="train", count=2, examples=(0, 5), **near)
    host = r.Environment(
        machine="f00", cpu="a processor", cores=2, memory_bytes=2**34, instruction_sets=("avx2",), accelerators=(),
        platform="Linux", python="3.11.7", packages={"numpy": "2.0"}, time="2026-01-01T00:00:00+00:00",
    )  # fmt: skip
    sample = r.Sample(
        quantity="latency_s", unit="s", values=np.array([1e-3, 2e-3, math.inf]),
        blocks=np.array([0, 0, 1], dtype=np.int32), conditions={"batch": 8, "type": "array", "why": None},
        provenance="modelled", note="a note",
    )  # fmt: skip
    gone = r.Unavailable(quantity="energy_j", reason="no counter on this host", conditions={"batch": 1})
    made = r.Predictions(
        split="validation", labels=np.array([0, 1], dtype=np.int32), predicted=np.array([0, 0], dtype=np.int32),
        p_true=np.array([0.9, 0.25], dtype=np.float32), classes=2,
        **scores,
    )  # fmt: skip
    measurement = r.Measurement(subject="abc", environment=host, readings=(sample, gone), predictions=(made,))
    estimate = r.Estimate(
        quantity="latency", unit="x", value=0.5, low=0.4, high=0.6, level=0.95, method="t", n=10
    )  # fmt: skip
    step = r.Step(name="quantize", options=(("per_channel", True), ("bits", 8)))
    plan = r.Plan(steps=(step, r.Step(name="export")))
    prediction = r.Prediction(plan=plan, gain=2.0, ceiling=3.0, minutes=0.5, because="roofline", hopeless=True)
    finding = r.Finding(name="memory-bound", claim="it is", evidence={"share": 0.9}, predictions=(prediction,))
    requirement = r.Requirement(quantity="latency", kind="max_ratio", limit=0.3, text="latency <= 0.3x")
    verdict = r.Verdict(requirement=requirement, outcome="met", estimate=estimate, p_value=0.01, advice="more")
    refusal = r.Refusal(kind="timeout", reason="no answer")
    comparison = r.Comparison(
        arms=("baseline", "control"), batch=1, seconds=np.arange(8.0).reshape(2, 2, 2),
        order=np.zeros((2, 2, 2), dtype=np.int32), flags=("round 1: steal",),
        **({"ended_s": np.array([2.0, 4.0]), "readings": ((sample, gone), (sample,))} if schema > 1 else {}),
    )  # fmt: skip
    trial = r.Trial(
        plan=plan, artifact="trials/0", after=measurement, comparison=comparison, refusal=refusal,
        prediction=prediction, wall_s=12.5,
    )  # fmt: skip
    verification = r.Verification(
        plans=(plan,), comparison=comparison, measurements=(measurement, measurement), verdicts=((verdict,),),
        control=estimate, control_alarm=False, confirmed=True,
    )  # fmt: skip
    outcome = r.Outcome(status="met", chosen=plan, reason="the fastest", wall_s=60.0)
    run = r.Run(
        command="optimize", spec=spec, contract=contract, requirements=(requirement,), budget_s=600.0,
        environment=host, peaks=(sample, gone), splits={"train": 1077}, split_method="6:2:2", overlaps=(overlap,),
        warnings=("careful",), version="0.1.0",
    )  # fmt: skip
    whole = r.RunRecords(
        run=run, baseline=measurement, findings=(finding,), trials=(trial,), verification=verification, outcome=outcome
    )
    return [
        spec, contract, overlap, host, sample, gone, made, measurement, estimate, step, plan, prediction, finding,
        requirement, verdict, refusal, comparison, trial, verification, outcome, run, whole,
        *(evaluation_examples(estimate, gone, overlap, host) if schema > 1 else ()),
        *(gating_examples(plan, measurement, verdict, comparison, estimate, refusal) if schema > 1 else ()),
        *(comparing_examples(comparison, estimate, gone, host) if schema > 1 else ()),
        *(energy_examples() if schema > 1 else ()),
        *(profile_examples() if schema > 1 else ()),
        *(training_examples(spec, contract, overlap, host, estimate, made, gone) if schema > 1 else ()),
        *(ledger_examples(spec, host, plan, requirement, comparison, estimate, gone, refusal) if schema > 1 else ()),
    ]  # fmt: skip


def training_examples(spec, contract, overlap, host, estimate, made, gone):
    """One of every record type of a training."""
    two = np.array([0.5, 0.25])
    counts = np.array([8, 8])
    search = r.RateSearch(
        rates=two, losses=two, smoothed=two, steepest=0.1, diverged=None, suggested=0.1, note="it never ran away"
    )
    unread = r.Unread(split="train", example=3, reason="no picture")
    check = r.LabelCheck(
        word="typo", value=0.1, examples=9, agreed=8, changed=7, disputed=1, shown=(("a", "b", "0", "1"),)
    )
    watched = r.Watched(
        name="a loop", environment=host, version="0.1.0", phases=("forward", "backward"), phases_s=np.ones((2, 2)),
        loss=two, learning_rate=two, examples=counts, scores={"accuracy": two}, sampled=np.array([0]), layers=("fc",),
        gradient_norms=np.ones((1, 1)), label_counts=(8, 8), loader={"num_workers": 2}, readings=(gone,),
    )  # fmt: skip
    run = r.TrainingRun(
        spec=spec, contract=contract, recipe={"seed": 1, "milestones": (0.5,)}, environment=host, version="0.1.0",
        loss=two, learning_rate=two, step_s=two, wait_s=two, examples=counts, steps_per_epoch=1, ended="done",
        validation=two, predictions=(made,), overlaps=(overlap,), search=search, unread=(unread,), watched=watched,
        label_checks=(check,), said=("a word",), readings=(gone,),
    )  # fmt: skip
    return [search, unread, check, watched, run]


def ledger_examples(spec, host, plan, requirement, comparison, estimate, gone, refusal):
    """One of every record type of a ledger."""
    technique = r.Technique(name="amp", changes={"amp": "bf16"}, plan=plan)
    ledger = r.Ledger(
        spec=spec, recipe={"lr": 0.1}, techniques=(technique,), seeds=(0, 1), requirement=requirement, target=0.9,
        pay="time", environment=host, version="0.1.0", words=("steelyard", "ledger"),
    )  # fmt: skip
    cell = r.LedgerCell(technique="amp", seed=1, folder="cells/amp-1", refusal=refusal)
    turns = r.LedgerTurns(comparison=comparison, refused=(("amp", refusal),))
    row = r.LedgerRow(
        technique="amp", step=estimate, training=gone, memory=estimate, energy=gone, drop=estimate, reached=(1, 2),
        outcome="pays", reason="time falls",
    )  # fmt: skip
    end = r.LedgerEnd(
        rows=(row,), chosen="amp", recipe={"lr": 0.1}, plan=plan, control=estimate, control_alarm=False, level=0.95,
        test_drop=estimate, wall_s=9.0,
    )  # fmt: skip
    return [technique, ledger, cell, turns, row, end]


def profile_examples():
    """One of every record type of a profile."""
    runs = np.array([1e-3, 2e-3])
    turns = np.array([0, 1], dtype=np.int32)
    layer = r.LayerTime(
        layer="conv1", operator="convolution", names=("aten::conv2d",), seconds=runs, calls=1.0, macs=9, moved_bytes=8,
        weight_bytes=4, state="counted", dtype="fp32", kernel="jit:avx2",
    )  # fmt: skip
    profiled = r.Profiled(
        engine="eager", device="cpu", batch=2, layers=(layer,), profiled_s=runs, plain_s=runs, blocks=turns,
        plain_blocks=turns, unknown=(("mine::op", 2),), second_counter="another", opinions=(("convolution", 9, 8),),
        notes=("a note",),
    )  # fmt: skip
    ceiling = r.Ceiling(
        technique="INT8 quantisation", share=0.9, gain=2.0, ceiling=4.0, helps=True, because="the peak is four times"
    )
    return [layer, profiled, ceiling]


def energy_examples():
    """What a grid emits, and a machine's own calibration."""
    factor = r.GridFactor(
        region="FR", name="France", g_per_kwh=44.0, low=30.8, high=57.2, year=2024, source="Ember, yearly data"
    )  # fmt: skip
    calibration = r.EnergyCalibration(
        machine="0123456789ab", cpu="AMD EPYC", source="counters of 1 package", columns=("busy_cores", "moved_bytes_per_s"),
        rates=np.array([[0.0, 0.0], [2.0, 8e9]]), watts=np.array([20.0, 61.5]), kinds=("idle", "memory"),
        seconds=np.array([5.0, 5.0]), time="2026-01-31T00:00:00+00:00", version="0.1.0",
    )  # fmt: skip
    return factor, calibration


def comparing_examples(comparison, estimate, gone, host):
    """A comparison of two things, and what its control found."""
    difference = r.Difference(metric="accuracy", first="a", second="b", drop=estimate)
    compared = r.Compared(
        kind="models", names=("a", "b"), sources=("a.onnx", "b.onnx"), digests=("1", "2"), command=("steelyard",),
        band=0.02, level=0.95, time_level=0.975, batch=4, slots=12, slot_s=0.03, warm_s=0.25, environment=host,
        round_s=2.0, detectable=0.01, detectable_from="a rehearsal", data="digits", examples=9, options={"scale": "1/255"},
        qualities=((estimate, gone),), differences=(difference,), comparison=comparison, outcome="slower", ratio=estimate,
        control=estimate, control_alarm=True, noise_floor=0.004, advice="more", warnings=("careful",), wall_s=60.0,
        time="2026-01-01T00:00:00+00:00", version="0.1.0",
    )  # fmt: skip
    control = r.ControlReading(
        machine="f00", kind="models", log_ratio=0.001, spread=0.01, rounds=12, slots=12, time="now"
    )
    return compared, control


def gating_examples(plan, measurement, verdict, comparison, estimate, refusal):
    """What a gate says, and what a suite reads."""
    when = {"time": "2026-01-01T00:00:00+00:00", "version": "0.1.0"}
    host = measurement.environment
    saved = r.SavedBaseline(name="main", source="m.py", plan=plan, measured=measurement, labels=("a", "b"), **when)
    side = r.GateSide(name="runs/main", kind="run", plan=plan, subject="abc", environment=host)
    stage = r.GateStage(
        before=measurement, after=measurement, verdicts=(verdict,), comparison=comparison, control=estimate,
        control_alarm=True,
    )  # fmt: skip
    report = r.GateReport(
        baseline=side, candidate=side, how="turns", stages=(stage,), verdicts=(verdict,), undecided="fail",
        noise_floor=0.01, unlike="another processor", notes=("a note",), command=("steelyard", "gate"),
        environment=host, wall_s=9.0, **when,
    )  # fmt: skip
    suite = r.Suite(name="tiny", cells=("a/digits/onnx/batch-1",), definition="{}", environment=host, **when)
    cell = r.SuiteCell(
        key="a/digits/onnx/batch-1", model="a", data="digits", engine="onnxruntime", batch=1, folder="a",
        measured=measurement, labels=("a", "b"), refusal=refusal, flags=("round 1: steal",), wall_s=2.0,
    )  # fmt: skip
    change = r.CellChange(
        key="a/digits/onnx/batch-1", quantity="latency", found=estimate, outcome="faster", p_value=0.01, adjusted=0.02
    )
    changed = r.SuiteChange(
        first="a", second="b", changes=(change,), mean=estimate, unlike="another processor", notes=("a note",)
    )
    return [saved, side, stage, report, suite, cell, change, changed]


def evaluation_examples(estimate, gone, overlap, host):
    """One of every record type of an evaluation."""
    info = r.MetricInfo(
        name="recall", title="Recall", unit="fraction", low=0.0, high=1.0, higher_is_better=True, leads=True
    )
    line = np.array([0.0, 0.5, 1.0])
    curve = r.Curve(kind="roc", of="cat", x=line, y=line, low=line, high=line, count=line, note="pointwise")
    sliced = r.SliceScore(
        conditions=(("region", "north"), ("age", "30 to 40")), n=12, score=estimate, rest=gone, gap=estimate,
        p_value=0.01, adjusted=0.04, verdict="worse", discovered=True,
    )  # fmt: skip
    corrupted = r.Corrupted(name="gaussian blur", severity=3, score=estimate)
    shown = r.Shown(
        place="7", true="cat", predicted="dog", confidence=0.9, picture="aGk=", text="hi", heat="aGk=",
        weights=(0.1, -0.2), features=("age",), method="occlusion",
    )  # fmt: skip
    box = r.Box(quantity="loss", group="cat", quantiles=(0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6), n=9)
    gap = r.Gap(metric="accuracy", seen="train", unseen="test", on_seen=estimate, on_unseen=gone, gap=estimate)
    threshold = r.Threshold(value=0.3, target="recall >= 0.95", chosen_on="val.csv", n=90, reached=estimate)
    temperature = r.Temperature(value=1.5, fitted_on="val.csv", n=90, before=(estimate,), after=(gone,))
    evaluated = r.Evaluated(
        name="a", source="a.csv", digest="f00", n=9, split="test", scores=(estimate, gone),
        per_class=(("cat", (estimate, gone)),), confusion=np.eye(2, dtype=np.int64), curves=(curve,), boxes=(box,),
        slices=(sliced,), corrupted=(corrupted,), mistakes=(shown,), explained=(shown,), gaps=(gap,),
        threshold=threshold, temperature=temperature, notes=("a note",),
    )  # fmt: skip
    difference = r.Difference(
        metric="recall", first="a", second="b", drop=estimate, conditions=(("region", "north"),), n=9, p_value=0.1,
        adjusted=0.2, outcome="equivalent", tests=(("McNemar", 0.1),), advice="more",
    )  # fmt: skip
    objective = r.Objective(name="balanced", leads="accuracy", why="errors cost the same", others=("macro_f1",))
    gate = r.Gate(text="f1 >= 0.9", model="a", estimate=estimate, outcome="met", passed=True)
    evaluation = r.Evaluation(
        command=("steelyard", "evaluate"), task="binary", classes=("no", "yes"), metrics=(info,), models=(evaluated,),
        objective=objective, level=0.9, positive="yes", differences=(difference,), gates=(gate,), overlaps=(overlap,),
        examples="f00", test_uses=2, warnings=("careful",), environment=host, time="2026-01-01T00:00:00+00:00", version="0.1.0",
    )  # fmt: skip
    return [
        info, curve, sliced, corrupted, shown, box, gap, threshold, temperature, evaluated, difference, objective, gate,
        evaluation,
    ]  # fmt: skip


@pytest.mark.parametrize("record", examples(), ids=lambda v: type(v).__name__)
def test_every_record_comes_back_as_it_was(record):
    line = encode(record)
    assert "\n" not in line
    assert same(record, decode(line))
    assert encode(decode(line)) == line


def test_there_is_an_example_of_every_record_type():
    public = {n for n in r.__all__ if dataclasses.is_dataclass(getattr(r, n))}
    assert {type(e).__name__ for e in examples()} == public


def test_a_tuple_of_records_comes_back():
    findings = tuple(e for e in examples() if isinstance(e, r.Finding))
    assert same(findings, decode(encode(findings)))


@settings(deadline=None, max_examples=60)
@given(
    values=hnp.arrays(np.float64, st.integers(0, 30)),
    conditions=st.dictionaries(
        st.text(max_size=8), st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8), max_size=4
    ),
    note=st.text(max_size=20),
)
def test_any_sample_comes_back(values, conditions, note):
    sample = r.Sample(quantity="q", unit="s", values=values, conditions=conditions, note=note)
    line = encode(sample)
    assert line.isascii()
    assert same(sample, decode(line))


@settings(deadline=None, max_examples=60)
@given(
    array=hnp.arrays(
        st.sampled_from([np.dtype(d) for d in ("f8", "f4", "i4", "i8", "u1", "?")]),
        hnp.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=4),
    )
)
def test_any_array_comes_back_with_its_dtype_and_shape(array):
    found = decode(encode(array))
    assert found.shape == array.shape
    assert same(array, found)
    assert found.flags.writeable


def test_arrays_in_any_memory_order_come_back():
    array = np.asfortranarray(np.arange(6.0).reshape(2, 3))[:, ::-1]
    assert same(np.ascontiguousarray(array), decode(encode(array)))


def test_numpy_scalars_become_plain_numbers():
    record = r.Overlap(split="test", other="train", count=np.int64(3), examples=(np.int32(1),))
    assert decode(encode(record)) == r.Overlap(split="test", other="train", count=3, examples=(1,))


def test_what_cannot_be_recorded_is_said():
    with pytest.raises(TypeError, match="cannot record a object"):
        encode({"a": object()})


def test_a_newer_schema_is_named_with_the_cure():
    with pytest.raises(SchemaTooNew) as refused:
        decode('{"schema":3,"record":{}}')
    assert str(refused.value) == (
        "records have schema 3, this Steelyard reads up to 2: upgrade it (pip install -U steelyard)"
    )


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("hello", "not a Steelyard record: 'hello' (Expecting value: line 1 column 1 (char 0))"),
        ("[1]", "not a Steelyard record: '[1]' (list indices must be integers or slices, not str)"),
        ('{"record":{}}', "not a Steelyard record: '{\"record\":{}}' ('schema')"),
        ('{"schema":1,"record":{"type":"Spam"}}', "damaged record: unknown record type 'Spam'"),
        ('{"schema":1,"record":{"type":"Plan","colour":1}}', "damaged record: Plan has unknown fields ['colour']"),
    ],
)
def test_damaged_lines_say_what_is_wrong(line, message):
    with pytest.raises(InvalidInput) as refused:
        decode(line)
    assert str(refused.value) == message


def test_a_missing_field_is_named():
    with pytest.raises(InvalidInput, match=r"damaged record: .*missing 1 required keyword-only argument: 'name'"):
        decode('{"schema":1,"record":{"type":"Step"}}')


def test_brackets_without_end_are_a_damaged_line():
    with pytest.raises(InvalidInput, match="not a Steelyard record"):
        decode("[" * 100_000)


def _array(dtype, shape, content):
    packed = base64.b64encode(zlib.compress(content)).decode()
    body = {"type": "array", "dtype": dtype, "shape": shape, "zlib": packed}
    return json.dumps({"schema": 1, "record": body})


@pytest.mark.parametrize("dtype", ["|O", "O", "|O8"])
def test_arrays_of_objects_are_refused(dtype):
    with pytest.raises(InvalidInput, match="object arrays are not allowed"):
        decode(_array(dtype, [1], b"\0" * 8))


def test_an_array_whose_shape_does_not_fit_is_damaged():
    with pytest.raises(InvalidInput, match="damaged record: cannot reshape"):
        decode(_array("<f8", [3], b"\0" * 16))


def test_an_array_that_is_not_compressed_is_damaged():
    line = '{"schema":1,"record":{"type":"array","dtype":"<f8","shape":[1],"zlib":"AAAA"}}'
    with pytest.raises(InvalidInput, match="damaged record"):
        decode(line)


def test_records_of_schema_1_stay_readable():
    """The file was written once and is never written again: later versions must read what this one wrote."""
    lines = FIXTURE.read_text(encoding="utf-8").splitlines()
    for line, record in zip(lines, examples(schema=1), strict=True):
        assert same(decode(line), record), line[:80]


def test_a_measurement_says_what_was_not_taken():
    measurement = next(e for e in examples() if isinstance(e, r.Measurement))
    assert measurement.get("energy_j", batch=1).reason == "no counter on this host"
    assert measurement.get("latency_s", batch=1).reason == "not measured in this run"
    assert measurement.all("latency_s")[0].value == 2e-3
    assert measurement.on("test") is None
    assert measurement.on("validation").correct.tolist() == [True, False]


def test_plans_read_as_words():
    plan = next(e for e in examples() if isinstance(e, r.Plan))
    assert str(plan) == "quantize(per_channel=True, bits=8) > export"
    assert str(r.Plan()) == "baseline"
    assert len({plan, plan, r.Plan()}) == 2
