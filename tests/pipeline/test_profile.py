"""`steelyard profile` as its user meets it."""

import json

import pytest

import tiny_models

pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_models.write_onnx(tmp_path_factory.mktemp("tiny") / "tiny.onnx")


@pytest.fixture
def quick(monkeypatch):
    """Peaks take two seconds; here they are given."""
    import numpy as np

    from steelyard.pipeline import profile
    from steelyard.records import Sample

    def sample(quantity, value):
        return Sample(quantity=quantity, unit="FLOP/s", values=np.array([value]))

    peaks = tuple(sample(f"gemm_{kind}_flops", rate) for kind, rate in (("fp32", 1e11), ("int8", 4e11)))
    monkeypatch.setattr(profile, "measure_peaks", lambda: (*peaks, sample("copy_bandwidth_bytes_per_s", 1e10)))


def test_a_profile_shows_tables_and_writes_trace_records_and_report(steelyard, model, tmp_path, quick):
    trace = tmp_path / "deep" / "trace.json"
    words = ("profile", model, "--budget", "1s", "--out", tmp_path / "run", "--trace", trace)
    ran = steelyard(*words)
    assert ran.status == 0, ran.err
    for shown in (
        "under the profiler",
        "8.19 kMAC = 16.4 kFLOP",
        "unknown operators: none",
        "Layers, by time",
        "INT8 quantisation",
        str(trace),
    ):
        assert shown in ran.out, ran.out
    events = json.loads(trace.read_text())["traceEvents"]
    assert {e["ph"] for e in events} == {"M", "X", "C"}
    page = (tmp_path / "run" / "report.html").read_text()
    assert "Layers that take most time" in page
    assert "What a technique can give here" in page
    ran = steelyard(*words, "--json")  # again: the profile of before gives way
    document = json.loads(ran.out)
    assert document["profile"]["engine"] == "onnxruntime"
    assert sum(layer["macs"] or 0 for layer in document["profile"]["layers"]) >= tiny_models.MACS
    assert len(document["findings"][0]["ceilings"]) == 5
    assert document["trace"] == str(trace)
    again = steelyard("report", tmp_path / "run", "--quiet")
    assert again.status == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--batch", "0"), "a batch holds 1 example or more, got 0"),
        (("--trace", "."), "is a folder: give --trace the name of a file"),
        (("--device", "cuda"), "--device cuda is for PyTorch models; tiny.onnx runs in onnxruntime on the processor"),
        (("--budget", "soon"), "cannot read the time 'soon'"),
    ],
)
def test_bad_words_are_said_in_one_line(steelyard, model, tmp_path, words, message):
    ran = steelyard("profile", model, "--out", tmp_path / "run", "--quiet", *words)
    assert ran.status == 2
    assert message in ran.message


def test_a_folder_of_another_run_is_left_alone(steelyard, model, tmp_path, quick):
    from steelyard.probe.host import environment
    from steelyard.records import Contract, Run, SubjectSpec
    from steelyard.store import RunFolder

    with RunFolder(tmp_path / "run") as folder:
        folder.append(
            Run(
                command="optimize", spec=SubjectSpec(source="m.py"), contract=Contract(shape=(1,)), requirements=(),
                budget_s=1.0, environment=environment(),
            )
        )  # fmt: skip
    ran = steelyard("profile", model, "--out", tmp_path / "run", "--quiet")
    assert ran.status == 2
    assert "holds a run of optimize: give another --out" in ran.message


def test_data_that_cannot_be_read_is_said_before_anything_is_measured(steelyard, model, tmp_path):
    ran = steelyard("profile", model, "--data", tmp_path / "nothing", "--out", tmp_path / "run", "--quiet")
    assert ran.status == 2
    assert "no such data" in ran.message
    assert not (tmp_path / "run" / "records.jsonl").exists()
