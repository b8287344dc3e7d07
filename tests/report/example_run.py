"""Runs written out by hand, with the shape and noise of real ones: what every test of the report reads."""

from __future__ import annotations

import numpy as np

from steelyard.records import (
    Comparison,
    Contract,
    Environment,
    Estimate,
    Finding,
    Measurement,
    Outcome,
    Overlap,
    Plan,
    Prediction,
    Predictions,
    Refusal,
    Requirement,
    Run,
    RunRecords,
    Sample,
    Scalar,
    Step,
    SubjectSpec,
    Trial,
    Unavailable,
    Verdict,
    Verification,
)
from steelyard.stats.proportion import tango

HOSTILE = "</script><b>ankle boot</b>"
LABELS = ("t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", HOSTILE)
INT8 = Plan(steps=(Step(name="openvino_int8", options=(("preset", "mixed"),)),))
ORT_INT8 = Plan(steps=(Step(name="onnxruntime_int8_static", options=(("per_channel", True),)),))
OV_FP32 = Plan(steps=(Step(name="openvino_fp32"),))
ORT_FP32 = Plan(steps=(Step(name="onnxruntime_fp32"),))
COMPILE = Plan(steps=(Step(name="channels_last"), Step(name="torch_compile", options=(("freeze", True),))))
BF16 = Plan(steps=(Step(name="bf16"),))
DYNAMIC = Plan(steps=(Step(name="onnxruntime_int8_dynamic"),))
OV_BF16 = Plan(steps=(Step(name="openvino_bf16"),))

RATIOS = {INT8: 0.155, ORT_INT8: 0.31, OV_FP32: 0.29, ORT_FP32: 0.36, COMPILE: 0.55, BF16: 1.42}
FLIPS = {INT8: 0.0015, ORT_INT8: 0.011, OV_FP32: 0.0, ORT_FP32: 0.0, COMPILE: 0.0, BF16: 0.002}
BYTES = {INT8: 11.4e6, ORT_INT8: 11.3e6, OV_FP32: 44.7e6, ORT_FP32: 44.7e6, COMPILE: 44.8e6, BF16: 22.4e6}
BASE_LATENCY_S = 3.1e-3

ENVIRONMENT = Environment(
    machine="7c1f20aa93be",
    cpu="Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz",
    cores=2,
    memory_bytes=8_228_000_000,
    instruction_sets=("avx2", "avx512f", "avx512_vnni", "amx_int8", "amx_bf16"),
    accelerators=(),
    platform="Linux-6.1-x86_64",
    python="3.11.9",
    packages={"torch": "2.14.1", "openvino": "2026.1.0", "onnxruntime": "1.24.0", "numpy": "2.3.0"},
    time="2026-05-04T10:20:30+00:00",
)
ACCURACY = Requirement(quantity="accuracy", kind="max_drop", limit=0.005, text="accuracy drop <= 0.5%")
LATENCY = Requirement(quantity="latency", kind="max_ratio", limit=0.3, text="latency <= 0.3x")
SIZE = Requirement(quantity="size", kind="max", limit=20e6, text="size <= 20 MB")


def full() -> RunRecords:
    """A finished `optimize`: the INT8 plan met everything, one finalist broke the latency limit."""
    rng = np.random.default_rng(7)
    return RunRecords(
        run=run("optimize"),
        baseline=measurement(rng, plan=None, split="validation"),
        findings=findings(),
        trials=trials(rng),
        verification=verification(rng),
        outcome=Outcome(
            status="met", chosen=INT8, reason="the fastest of 2 finalists that met all 3 requirements", wall_s=534.0
        ),
    )


def interrupted() -> RunRecords:
    """Killed after three trials: nothing is verified and nothing chosen."""
    whole = full()
    return RunRecords(
        run=whole.run, baseline=whole.baseline, findings=whole.findings, trials=(*whole.trials[:2], whole.trials[-1])
    )


def benchmark() -> RunRecords:
    """A `benchmark` of a file without data: cost alone."""
    rng = np.random.default_rng(8)
    base = measurement(rng, plan=None, split=None)
    described = run("benchmark")
    return RunRecords(
        run=Run(
            command="benchmark",
            spec=SubjectSpec(source="models/resnet18.onnx"),
            contract=described.contract,
            requirements=(),
            budget_s=0.0,
            environment=ENVIRONMENT,
            peaks=described.peaks,
            version="0.1.0",
        ),
        baseline=base,
    )


def nothing_passed() -> RunRecords:
    """Every finalist broke or could not prove a requirement; the baseline stays."""
    whole = full()
    assert whole.verification is not None
    undecided = verdict(ACCURACY, "undecided", 0.0031, -0.0012, 0.0074, "fraction")
    undecided = Verdict(
        requirement=undecided.requirement,
        outcome="undecided",
        estimate=undecided.estimate,
        p_value=0.21,
        advice="needs about 2,600 more test examples",
    )
    row = (undecided, verdict(LATENCY, "broken", 0.41, 0.40, 0.42, "ratio"), unavailable_verdict())
    old = whole.verification
    return RunRecords(
        run=whole.run,
        baseline=whole.baseline,
        findings=whole.findings,
        trials=whole.trials,
        verification=Verification(
            plans=old.plans,
            comparison=old.comparison,
            measurements=old.measurements,
            verdicts=(row, row),
            control=old.control,
            control_alarm=True,
        ),
        outcome=Outcome(
            status="nothing-passed",
            chosen=Plan(),
            reason="no finalist met every requirement, so the folder holds the baseline",
            wall_s=601.0,
        ),
    )


def estimates() -> dict[tuple[str, str], tuple[Estimate, ...]]:
    """Metrics with intervals, keyed as `render_html` takes them."""
    return {
        (str(plan or Plan()), split): metrics(predictions(plan, split))
        for plan, split in (
            (None, "test"),
            (INT8, "test"),
            (None, "validation"),
            (INT8, "validation"),
            (ORT_INT8, "validation"),
        )
    }


def metrics(made: Predictions) -> tuple[Estimate, ...]:
    accuracy, n = float(np.mean(made.correct)), made.labels.size
    half = 1.96 * (accuracy * (1 - accuracy) / n) ** 0.5
    common = {"level": 0.95, "n": n}
    return (
        Estimate(
            quantity="accuracy",
            unit="fraction",
            value=accuracy,
            low=accuracy - half,
            high=accuracy + half,
            method="Wilson",
            **common,
        ),
        Estimate(
            quantity="macro_f1",
            unit="fraction",
            value=accuracy - 0.001,
            low=accuracy - 0.001 - half,
            high=accuracy - 0.001 + half,
            method="stratified bootstrap",
            **common,
        ),
        Estimate(quantity="log_loss", unit="nat", value=0.262, low=0.251, high=0.274, method="t interval", **common),
    )


def run(command: str) -> Run:
    return Run(
        command=command,
        spec=SubjectSpec(
            source="examples/fashion_mnist.py:model", data="data/fashion <mnist>", options={"classes": 10}
        ),
        contract=Contract(shape=(1, 28, 28), scale=1 / 255, mean=(0.286,), std=(0.353,), labels=LABELS),
        requirements=(ACCURACY, LATENCY, SIZE),
        budget_s=600.0,
        environment=ENVIRONMENT,
        peaks=(
            one("gemm_fp32_flops", "FLOP/s", 142e9),
            one("gemm_bf16_flops", "FLOP/s", 1.9e12),
            one("gemm_int8_flops", "FLOP/s", 3.4e12),
            one("copy_bandwidth_bytes_per_s", "byte/s", 12.4e9),
        ),
        splits={"train": 48_000, "validation": 12_000, "test": 10_000},
        split_method="given test split; train and validation 8:2, stratified, seed 0",
        overlaps=(Overlap(split="test", other="train", count=3, examples=(17, 402, 9120)),),
        warnings=("steal time reached 3 % during measurement", HOSTILE),
        version="0.1.0",
    )


def one(quantity: str, unit: str, value: float, **conditions: Scalar) -> Sample:
    return Sample(quantity=quantity, unit=unit, values=np.array([value]), conditions=conditions, provenance="measured")


def counted(quantity: str, unit: str, value: float) -> Sample:
    return Sample(quantity=quantity, unit=unit, values=np.array([value]), provenance="counted")


def few(rng: np.random.Generator, quantity: str, unit: str, value: float, **conditions: Scalar) -> Sample:
    return Sample(quantity=quantity, unit=unit, values=value * rng.lognormal(0, 0.02, 5), conditions=dict(conditions))


def measurement(rng: np.random.Generator, plan: Plan | None, split: str | None) -> Measurement:
    """One model; `plan` None is the baseline, `split` None means no data."""
    ratio = 1.0 if plan is None else RATIOS[plan]
    stored = 44.8e6 if plan is None else BYTES[plan]
    base_s = BASE_LATENCY_S * ratio
    latency = base_s * rng.lognormal(0, 0.04, 600) + rng.exponential(base_s * 0.02, 600)
    sweep = [1, 2, 4, 8, 16, 32, 64]
    return Measurement(
        subject="sha256:4f1a",
        environment=ENVIRONMENT,
        readings=(
            counted("parameters", "count", 11_173_962),
            counted("parameters_trainable", "count", 11_173_962),
            counted("parameters_nonzero", "count", 11_170_011),
            counted("stored_bytes", "byte", stored),
            counted("macs", "MAC", 457_000_000),
            counted("macs_coverage", "fraction", 0.993),
            Sample(
                quantity="latency_s",
                unit="s",
                values=latency,
                blocks=None if split is None else np.repeat(np.arange(3, dtype=np.int32), 200),
                conditions={"batch": 1},
            ),
            *(few(rng, "throughput_per_s", "1/s", b / (base_s * (0.3 + 0.7 * b**0.8)), batch=b) for b in sweep),
            few(rng, "memory_before_load_bytes", "byte", 41e6 if plan else 212e6),
            few(rng, "memory_loaded_bytes", "byte", 71e6 if plan else 267e6),
            few(rng, "memory_running_bytes", "byte", 83e6 if plan else 294e6),
            few(rng, "load_s", "s", 0.19 if plan else 0.41),
            few(rng, "first_prediction_s", "s", 0.012 if plan else 0.038),
            energy(rng, ratio, plan),
            *operators(base_s),
        ),
        predictions=() if split is None else (predictions(plan, split),),
    )


def energy(rng: np.random.Generator, ratio: float, plan: Plan | None) -> Sample | Unavailable:
    if plan is not None and plan != INT8:
        return Unavailable(quantity="energy_j", reason="no counter on this host", conditions={"batch": 1})
    return Sample(
        quantity="energy_j",
        unit="J",
        values=0.021 * ratio * rng.lognormal(0, 0.35, 500),
        conditions={"batch": 1},
        provenance="modelled",
        note="largest uncertainty: idle power of the unseen host",
    )


def operators(base_s: float) -> list[Sample]:
    shares = {"convolution": 0.71, "batch_norm": 0.11, "relu": 0.08, "add": 0.05, "max_pool": 0.03, "linear": 0.02}
    return [one("operator_s", "s", base_s * share, operator=name) for name, share in shares.items()]


def predictions(plan: Plan | None, split: str) -> Predictions:
    n = {"validation": 12_000, "test": 10_000}[split]
    rng = np.random.default_rng(11)
    labels = rng.integers(0, 10, n).astype(np.int32)
    wrong = rng.random(n) < 0.088
    predicted = np.where(wrong, (labels + rng.integers(1, 4, n)) % 10, labels).astype(np.int32)
    if plan is not None:
        flip = rng.random(n) < FLIPS[plan]
        predicted = np.where(flip, (predicted + 1) % 10, predicted).astype(np.int32)
    p_true = np.clip(rng.beta(8, 1.3, n), 1e-4, 1).astype(np.float32)
    return Predictions(split=split, labels=labels, predicted=predicted, p_true=p_true, classes=10)


def comparison(
    rng: np.random.Generator, arms: dict[str, float], rounds: int, slots: int, flags: tuple[str, ...] = ()
) -> Comparison:
    drift = np.exp(np.cumsum(rng.normal(0, 0.008, rounds * slots))).reshape(rounds, slots, 1)
    ratios = np.array(list(arms.values()))
    process = rng.lognormal(0, 0.006, (rounds, 1, len(arms)))
    noise = rng.lognormal(0, 0.02, (rounds, slots, len(arms)))
    order = rng.permuted(np.tile(np.arange(len(arms), dtype=np.int32), (rounds, slots, 1)), axis=2)
    seconds = BASE_LATENCY_S * drift * ratios * process * noise
    return Comparison(arms=tuple(arms), batch=1, seconds=seconds, order=order, flags=flags)


def trials(rng: np.random.Generator) -> tuple[Trial, ...]:
    forecast = {p.plan: p for f in findings() for p in f.predictions}
    weighed = [
        Trial(
            plan=plan,
            artifact=f"trials/{i:03d}",
            after=measurement(rng, plan, "validation"),
            comparison=comparison(rng, {"baseline": 1.0, str(plan): ratio}, 4, 20),
            prediction=forecast.get(plan),
            wall_s=float(20 + 9 * i),
        )
        for i, (plan, ratio) in enumerate(RATIOS.items())
    ]
    refused = (
        Trial(
            plan=DYNAMIC,
            refusal=Refusal(kind="skipped", reason="will not help here: 98 % of the time is in convolutions"),
            prediction=forecast.get(DYNAMIC),
        ),
        Trial(
            plan=OV_BF16,
            refusal=Refusal(kind="parity", reason=f"outputs differ by 0.31 on class {HOSTILE}"),
            wall_s=12.0,
        ),
    )
    return (*weighed, *refused)


def findings() -> tuple[Finding, ...]:
    return (
        Finding(
            name="compute-bound",
            claim="Convolutions take 71 % of the time and run at 41 % of this machine's fp32 peak.",
            evidence={"intensity_flop_per_byte": 18.2, "achieved_flops": 58e9, "convolution_share": 0.71},
            predictions=(
                forecast(INT8, 5.2, 9.0, "VNNI and AMX multiply INT8 24 times as fast as fp32"),
                forecast(ORT_INT8, 4.0, 9.0, "VNNI multiplies INT8 four times as fast"),
                forecast(BF16, 1.6, 6.0, "AMX has a bf16 path"),
            ),
        ),
        Finding(
            name="dispatch-bound",
            claim="62 operators take 5 us each to dispatch: 24 % of one inference is not arithmetic.",
            evidence={"dispatch_share": 0.24, "operators": 62.0},
            predictions=(
                forecast(OV_FP32, 2.9, 3.4, "fused kernels and one call instead of 62"),
                forecast(ORT_FP32, 2.4, 3.4, "one call instead of 62"),
                forecast(COMPILE, 1.6, 2.2, "generated code without dispatch"),
                Prediction(
                    plan=DYNAMIC,
                    gain=1.01,
                    ceiling=1.02,
                    minutes=0.5,
                    because="98 % of the time is in convolutions, which it leaves alone",
                    hopeless=True,
                ),
            ),
        ),
    )


def forecast(plan: Plan, gain: float, ceiling: float, because: str) -> Prediction:
    return Prediction(plan=plan, gain=gain, ceiling=ceiling, minutes=0.8, because=because)


def verification(rng: np.random.Generator) -> Verification:
    plans = (INT8, OV_FP32)
    arms = {"baseline": 1.0, "control": 1.0, **{str(p): RATIOS[p] for p in plans}}
    first = (
        drop_verdict(INT8),
        verdict(LATENCY, "met", 0.155, 0.154, 0.157, "ratio"),
        verdict(SIZE, "met", 11.4e6, 11.4e6, 11.4e6, "byte"),
    )
    second = (
        drop_verdict(OV_FP32),
        verdict(LATENCY, "undecided", 0.291, 0.281, 0.302, "ratio"),
        verdict(SIZE, "broken", 44.7e6, 44.7e6, 44.7e6, "byte"),
    )
    return Verification(
        plans=plans,
        comparison=comparison(rng, arms, 10, 24, flags=("round 4: steal 3 %",)),
        measurements=(
            measurement(rng, None, "test"),
            measurement(rng, INT8, "test"),
            measurement(rng, OV_FP32, "test"),
        ),
        verdicts=(first, second),
        control=Estimate(
            quantity="latency_ratio",
            unit="ratio",
            value=1.001,
            low=0.996,
            high=1.006,
            level=0.95,
            method="t interval on log-ratios",
            n=10,
        ),
        control_alarm=False,
        confirmed=True,
    )


def verdict(requirement: Requirement, outcome: str, value: float, low: float, high: float, unit: str) -> Verdict:
    estimate = Estimate(
        quantity=requirement.quantity,
        unit=unit,
        value=value,
        low=low,
        high=high,
        level=0.9833,
        method="Tango score" if requirement.kind == "max_drop" else "t interval on log-ratios",
        n=10_000 if requirement.kind == "max_drop" else 10,
    )
    return Verdict(requirement=requirement, outcome=outcome, estimate=estimate, p_value=0.001)  # type: ignore[arg-type]


def drop_verdict(plan: Plan) -> Verdict:
    before, after = predictions(None, "test").correct, predictions(plan, "test").correct
    lost, won, n = int(np.sum(before & ~after)), int(np.sum(after & ~before)), before.size
    low, high = tango(lost, won, n, 0.9833)
    return verdict(ACCURACY, "met" if high <= 0.005 else "undecided", (lost - won) / n, low, high, "fraction")


def unavailable_verdict() -> Verdict:
    return Verdict(requirement=SIZE, outcome="unavailable", estimate=None, advice="the artifact could not be read")
