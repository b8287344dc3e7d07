"""`steelyard evaluate` as a user meets it: its commands, exit statuses, files and one-line refusals."""

import csv
import json
import os
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest
from sklearn.metrics import f1_score, recall_score, roc_auc_score

from steelyard import records as r
from steelyard.pipeline.evaluation import evaluate as pipeline
from steelyard.probe.host import environment
from steelyard.store import RunFolder, read_evaluations

RNG = np.random.default_rng(11)
N = 200
Y = (RNG.random(N) < 0.4).astype(int)
P = np.clip(0.4 * Y + 0.6 * RNG.random(N), 0, 1).round(4)
Q = np.clip(P + RNG.normal(0, 0.1, N), 0, 1).round(4)
COLUMNS = {
    "id": [f"#{i}" for i in range(N)],
    "y": Y.tolist(),
    "p": P.tolist(),
    "region": RNG.choice(["north", "south"], N).tolist(),
    "age": RNG.integers(18, 90, N).tolist(),
}


def write(path, columns):
    columns = {name: list(values) for name, values in columns.items()}
    if path.suffix == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.table(columns), path)
    elif path.suffix == ".npz":
        np.savez(path, **{name: np.array(values) for name, values in columns.items()})
    else:
        with path.open("w", newline="", encoding="utf-8") as file:
            rows = csv.writer(file)
            rows.writerow(list(columns))
            rows.writerows(zip(*columns.values(), strict=True))
    return path


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "preds.csv", COLUMNS)
    return tmp_path


@pytest.fixture
def unrendered(monkeypatch):
    """The page takes two seconds to draw, and is tested where it is made."""
    monkeypatch.setattr(pipeline, "render_evaluation", lambda _: "<html></html>")


@pytest.fixture
def says(here, steelyard, unrendered):
    """The message of a command that ends with exit status 2 and one line."""

    def run(*words):
        ran = steelyard("evaluate", *words, "--quiet")
        assert (ran.status, ran.out) == (2, ""), ran
        assert "Traceback" not in ran.err
        return ran.message

    return run


# --- the commands of the guide -------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["csv", "tsv", "parquet", "npz"])
def test_saved_predictions_with_slices(here, steelyard, unrendered, suffix):
    path = write(here / f"t.{suffix}", COLUMNS) if suffix != "tsv" else here / "t.tsv"
    if suffix == "tsv":
        path.write_text((here / "preds.csv").read_text().replace(",", "\t"))
    ran = steelyard(
        "evaluate", path, "--label", "y", "--score", "p", "--slice", "region", "--slice", "age=10", "--out", "eval/"
    )
    assert ran.status == 0, ran
    found = json.loads((here / "eval" / "metrics.json").read_text())
    model = found["models"][0]
    assert model["metrics"]["roc_auc"]["value"] == pytest.approx(roc_auc_score(Y, P))
    assert model["metrics"]["f1"]["value"] == pytest.approx(f1_score(Y, P >= 0.5))
    assert model["confusion"]["counts"] == np.histogram2d(Y, P >= 0.5, bins=2)[0].astype(int).tolist()
    assert len([s for s in model["slices"] if not s["discovered"]]) == 12
    for word in ("Accuracy", "95 % interval", "Wilson", "region", "north", "metrics.json", "report.html"):
        assert word in ran.out
    assert (here / "eval" / "report.html").exists()


def test_two_models_by_key_whatever_the_order_of_rows(here, steelyard, unrendered):
    order = np.random.default_rng(0).permutation(N)
    shuffled = {name: [values[i] for i in order] for name, values in COLUMNS.items()} | {"p": Q[order].tolist()}
    write(here / "a.parquet", COLUMNS)
    write(here / "b.parquet", shuffled)
    write(here / "c.parquet", COLUMNS | {"p": Q.tolist()})
    found = []
    for other in ("b", "c"):
        ran = steelyard(
            "evaluate",
            "a.parquet",
            "--compare",
            f"{other}.parquet",
            "--key",
            "id",
            "--slice",
            "region",
            "--out",
            other,
            "--json",
        )
        assert ran.status == 0, ran
        found.append(json.loads(ran.out)["differences"])
    for mine, theirs in zip(*found, strict=True):
        assert {**mine, "second": ""} == {**theirs, "second": ""} | {"advice": mine["advice"]}
    area = next(d for d in found[0] if d["metric"] == "roc_auc" and not d["conditions"])
    assert area["drop"]["value"] == pytest.approx(roc_auc_score(Y, P) - roc_auc_score(Y, Q))
    sliced = {json.dumps(d["conditions"]) for d in found[0] if d["conditions"]}
    assert len(sliced) == 2
    assert all("region" in where for where in sliced)


def test_an_objective_a_target_and_a_gate(here, steelyard, unrendered):
    words = ("preds.csv", "--objective", "medical-screening", "--target", "recall >= 0.95", "--fail-under")
    passed = steelyard("evaluate", *words, "f1=0.1", "--out", "a", "--json")
    failed = steelyard("evaluate", *words, "f1=0.99", "--out", "b", "--json")
    assert (passed.status, failed.status) == (0, 1)
    found = json.loads(failed.out)
    model = found["models"][0]
    threshold = model["threshold"]["value"]
    assert model["threshold"]["chosen_on"] == "a random half of the examples"
    assert found["gates"][0]["passed"] is False
    assert next(iter(model["metrics"])) == "recall"
    assert 0 < threshold < 1


def test_a_target_chosen_on_validation_is_judged_on_test(here, steelyard, unrendered):
    split = np.where(np.arange(N) < 120, "validation", "test")
    write(here / "t.csv", COLUMNS | {"split": split.tolist()})
    found = json.loads(steelyard("evaluate", "t.csv", "--target", "recall >= 0.9", "--out", "a", "--json").out)
    fit, judge = split == "validation", split == "test"
    best = max(t for t in np.unique(P[fit]) if recall_score(Y[fit], P[fit] >= t) >= 0.9)
    model = found["models"][0]
    assert model["threshold"]["value"] == best
    assert model["metrics"]["recall"]["value"] == pytest.approx(recall_score(Y[judge], P[judge] >= best))
    assert model["n"] == judge.sum()
    assert model["temperature"]["fitted_on"] == "the validation rows"


def test_validation_answers_in_a_file_of_their_own_fit_the_temperature(here, steelyard, unrendered):
    write(here / "val.csv", COLUMNS)
    ran = steelyard("evaluate", "preds.csv", "--validation", "val.csv", "--json", "--out", "a")
    model = json.loads(ran.out)["models"][0]
    assert model["temperature"]["fitted_on"] == "val.csv"


@pytest.mark.slow
def test_a_model_with_robustness_and_explanations(tmp_path, monkeypatch, steelyard):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.py").write_text(
        textwrap.dedent("""
        from torch import nn
        from steelyard import Contract, Subject

        def subject():
            net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
            return Subject(model=net, contract=Contract(shape=(1, 8, 8), scale=1 / 16, labels=tuple("0123456789")), data="digits")
        """)
    )
    ran = steelyard(
        "evaluate", "model.py:subject", "--data", "digits", "--robustness", "--explain", "2", "--json", "--out", "m"
    )
    assert ran.status == 0, ran
    model = json.loads(ran.out)["models"][0]
    assert {c["severity"] for c in model["robustness"]} == set(range(6))


def test_several_labels_and_numbers(here, steelyard, unrendered):
    flags = RNG.integers(0, 2, (N, 3))
    table = {f"y_{c}": flags[:, i].tolist() for i, c in enumerate("abc")}
    table |= {f"p_{c}": RNG.random(N).tolist() for c in "cba"}
    write(here / "m.csv", table)
    found = json.loads(steelyard("evaluate", "m.csv", "--label", "y_*", "--score", "p_*", "--json", "--out", "m").out)
    assert (found["task"], found["classes"]) == ("multilabel", ["a", "b", "c"])
    write(here / "r.csv", {"target": RNG.normal(size=N).tolist(), "prediction": RNG.normal(size=N).tolist()})
    found = json.loads(steelyard("evaluate", "r.csv", "--task", "regression", "--json", "--out", "r").out)
    assert found["task"] == "regression"


# --- what is written and printed -------------------------------------------------------------------------------


def test_json_has_what_metrics_json_has_and_the_report_renders_again(here, steelyard, unrendered):
    printed = json.loads(steelyard("evaluate", "preds.csv", "--json", "--out", "eval").out)
    written = json.loads((here / "eval" / "metrics.json").read_text())
    assert {name: value for name, value in printed.items() if name not in ("folder", "report")} == written
    for name in ("metrics.json", "report.html", "../preds.csv"):
        (here / "eval" / name).unlink()
    again = steelyard("report", "eval", "--json")
    assert again.status == 0, again
    assert json.loads((here / "eval" / "metrics.json").read_text()) == written
    assert (here / "eval" / "report.html").exists()
    assert json.loads(again.out) == printed


@pytest.mark.slow
def test_figures_are_pictures_of_every_chart(here, steelyard):
    assert steelyard("evaluate", "preds.csv", "--figures", "--quiet", "--out", "eval").status == 0
    made = {path.suffix: path.read_bytes() for path in sorted((here / "eval" / "figures").iterdir())}
    assert set(made) == {".png", ".svg", ".pdf"}
    assert made[".png"].startswith(b"\x89PNG")
    assert made[".pdf"].startswith(b"%PDF")
    assert b"<svg" in made[".svg"]
    page = (here / "eval" / "report.html").read_text()
    assert len(page) > 10_000


def test_uses_of_the_same_examples_are_counted(here, steelyard, unrendered):
    for use in (1, 2, 3):
        ran = steelyard("evaluate", "preds.csv", "--json", "--out", "eval")
        assert json.loads(ran.out)["test_uses"] == use
    write(here / "other.csv", COLUMNS | {"y": (1 - Y).tolist()})
    assert json.loads(steelyard("evaluate", "other.csv", "--json", "--out", "eval").out)["test_uses"] == 1
    assert len(read_evaluations(here / "eval")) == 4


def test_a_kill_while_it_writes_leaves_the_records_whole(here, steelyard, unrendered):
    """The process is killed with its record written and its report not, then with half a line written."""
    assert steelyard("evaluate", "preds.csv", "--quiet", "--out", "eval").status == 0
    code = textwrap.dedent("""
        import os, signal, sys
        from steelyard.pipeline.evaluation import evaluate as pipeline
        pipeline.write_evaluation = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
        from steelyard.cli import main
        main(["evaluate", "preds.csv", "--quiet", "--out", "eval"])
    """)
    done = subprocess.run([sys.executable, "-c", code], check=False, timeout=120)
    assert done.returncode == -signal.SIGKILL
    assert len(read_evaluations(here / "eval")) == 2
    records = here / "eval" / "records.jsonl"
    whole = records.read_bytes()
    records.write_bytes(whole + whole[: len(whole) // 3])
    assert len(read_evaluations(here / "eval")) == 2
    assert json.loads(steelyard("evaluate", "preds.csv", "--json", "--out", "eval").out)["test_uses"] == 3


def test_a_folder_of_another_kind_of_run_is_refused(here, says):
    with RunFolder(here / "run") as folder:
        folder.append(
            r.Run(
                command="optimize", spec=r.SubjectSpec(source="m.py"), contract=r.Contract(shape=(1,), layout="F"),
                requirements=(), budget_s=1.0, environment=environment(),
            )
        )  # fmt: skip
    before = (here / "run" / "records.jsonl").read_bytes()
    assert says("preds.csv", "--out", "run") == "run holds a run of optimize: give another --out, or remove the folder"
    assert (here / "run" / "records.jsonl").read_bytes() == before


def test_a_folder_that_cannot_be_written(here, says):
    assert says("preds.csv", "--out", "/sys/steelyard").startswith("cannot write to /sys/steelyard: ")
    assert says("preds.csv", "--out", "preds.csv").startswith("cannot write to preds.csv: ")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written(here, says):
    (here / "eval").mkdir(mode=0o555)
    assert says("preds.csv", "--out", "eval").startswith("cannot write to eval")


@pytest.mark.parametrize(
    ("blocked", "suffix"),
    [(("torch", "torchvision", "onnx", "onnxruntime", "sklearn", "openvino", "pandas"), "parquet"), (("pyarrow", "pandas", "torch"), "csv"),
     (("pyarrow", "pandas", "torch"), "npz")],
)  # fmt: skip
def test_no_framework_is_needed(here, blocked, suffix):
    write(here / f"t.{suffix}", COLUMNS)
    code = textwrap.dedent(f"""
        import sys
        from importlib.abc import MetaPathFinder

        class Absent(MetaPathFinder):
            def find_spec(self, name, path=None, target=None):
                if name.partition(".")[0] in {blocked!r}:
                    raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

        sys.meta_path.insert(0, Absent())
        import importlib.util
        real = importlib.util.find_spec
        importlib.util.find_spec = lambda name, package=None: None if name.partition(".")[0] in {blocked!r} else real(name, package)
        from steelyard.pipeline.evaluation import evaluate as pipeline
        pipeline.render_evaluation = lambda _: ""
        from steelyard.cli import main
        main(["evaluate", "t.{suffix}", "--slice", "region", "--json", "--out", "eval"])
    """)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False, timeout=200
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["models"][0]["metrics"]["roc_auc"]["value"] == pytest.approx(roc_auc_score(Y, P))


# --- words that mean nothing, or contradict each other -----------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["gone.csv"], "no such file: gone.csv"),
        (["."], "no such file: ."),
        (["preds.csv", "--label", "yy"], "preds.csv has no column 'yy'; nearest: y"),
        (["preds.csv", "--score", "prob"], "preds.csv has no column 'prob'; it has id, y, p, region, age"),
        (["preds.csv", "--slice", "regoin"], "preds.csv has no column 'regoin'; nearest: region"),
        (["preds.csv", "--key", "idd"], "preds.csv has no column 'idd'; nearest: id"),
        (["preds.csv", "--cluster", "patient"], "preds.csv has no column 'patient'; it has id, y, p, region, age"),
        (["preds.csv", "--metric", "acuracy"], "binary predictions have no metric 'acuracy'; nearest: accuracy"),
        (["preds.csv", "--objective", "spam"], "there is no objective 'spam'; "),
        (["preds.csv", "--objective", "regression"], "the objective 'regression' is for regression predictions, these are binary"),
        (["preds.csv", "--target", "recall <= 0.9"], "cannot read the target"),
        (["preds.csv", "--target", "recall >= 95"], "the target 'recall >= 95' asks for 95, and recall lies within 0 to 1: did you mean 95%?"),
        (["preds.csv", "--costs", "fp=1"], "cannot read the costs 'fp=1'"),
        (["preds.csv", "--threshold", "0.5", "--costs", "fp=1"], "cannot read the costs 'fp=1'"),
        (["preds.csv", "--target", "f1", "--threshold", "0.5"], "give --threshold, or a --target"),
        (["preds.csv", "--predicted", "y", "--threshold", "0.5"], "give --predicted, or a threshold"),
        (["preds.csv", "--threshold", "nan"], "--threshold is a number such as 0.5; got nan"),
        (["preds.csv", "--level", "95"], "--level is a confidence such as 0.95; got 95"),
        (["preds.csv", "--level", "nan"], "--level is a confidence such as 0.95; got nan"),
        (["preds.csv", "--seed", "-1"], "--seed is a whole number from 0 on; got -1"),
        (["preds.csv", "--band", "0"], "--band is a difference of shares"),
        (["preds.csv", "--fail-under", "f1"], "cannot read 'f1': write it like f1=0.9"),
        (["preds.csv", "--fail-under", "brier >= 0.1"], "'brier >= 0.1' would ask for a worse model: write brier <= 0.1"),
        (["preds.csv", "--positive", "2"], "preds.csv: the positive class '2' is not among 0, 1"),
        (["preds.csv", "--slice", "age=x"], "cannot read the slice 'age=x'"),
        (["preds.csv", "--slice", "age=inf"], "cannot read the slice 'age=inf'"),
        (["preds.csv", "--slice", "region=3"], "preds.csv: column 'region' holds "),
        (["preds.csv", "--robustness"], "--robustness is for a model that can be run, and preds.csv holds saved predictions"),
        (["preds.csv", "--explain", "3"], "--explain is for a model that can be run"),
        (["preds.csv", "--task", "multilabel", "--positive", "1"], "--positive 1 needs two classes"),
        (["preds.csv", "--task", "regression", "--threshold", "1"], "--threshold decides between two classes"),
        (["preds.csv", "--label", "p", "--score", "p"], "column 'p' is to be both the labels and the answers to them"),
        (["preds.csv", "--task", "binary", "--query", "id"], "--query is for a ranking, and --task binary says"),
        (["preds.csv", "--task", "ranking"], "a ranking needs the query of each row"),
        (["preds.csv", "--task", "binary", "--score", "p,age,id"], "preds.csv: column 'id' holds '#0' in data row 1; numbers are needed"),
        (["preds.csv", "--compare", "preds.csv", "--validation", "preds.csv"], "--validation holds the answers of one model"),
        (["preds.csv", "--compare", "gone.csv"], "no such file: gone.csv"),
    ],
)  # fmt: skip
def test_words_are_refused_with_the_cure(says, words, message):
    assert says(*words, "--out", "eval").startswith(message)


@pytest.mark.parametrize("words", [["--task", "guess"], ["--explain", "-1"], ["--level", "high"], ["--no-such-option"]])
def test_usage_errors_are_clicks(here, steelyard, words):
    ran = steelyard("evaluate", "preds.csv", *words)
    assert ran.status == 2
    assert "Error: " in ran.err
    assert "Traceback" not in ran.err


# --- files that are bad --------------------------------------------------------------------------------------------

ROWS = "".join(f"{i % 2},0.{i % 9 + 1}\n" for i in range(40)).encode()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", b"", "t.csv is empty"),
        ("t.csv", b"y,p\n", "t.csv has a header and no rows"),
        ("t.csv", b"y,p\n" + ROWS + b"1\n", "t.csv: data row 41 has 1 fields, the header has 2"),
        ("t.csv", b"y,p\n" + ROWS + b"1,0.5,9\n", "t.csv: data row 41 has 3 fields, the header has 2"),
        ("t.csv", b"y,p\n" + ROWS + b"1,high\n", "t.csv: column 'p' holds 'high' in data row 41; numbers are needed"),
        ("t.csv", b"y,p\n" + ROWS + b"1,\n", "t.csv: column 'p' holds an empty cell in data row 41; numbers are needed"),
        ("t.csv", b"y,p\n" + ROWS + b",0.5\n", "t.csv: column 'y' holds an empty cell in data row 41; a class is needed in every row"),
        ("t.csv", b"y,p\n" + ROWS + b"nan,0.5\n", "t.csv: column 'y' holds 'nan' in data row 41; a class is needed in every row"),
        ("t.csv", b"y,p\n" + ROWS + b"1,nan\n", "score nan of example 40 is not a finite number: clean it first"),
        ("t.csv", b"y,p\n" + ROWS + b"1,inf\n", "score inf of example 40 is not a finite number: clean it first"),
        ("t.csv", b"y,p\n" + ROWS + b"1,1e400\n", "score inf of example 40 is not a finite number: clean it first"),
        ("t.csv", b"y,p\n" + ROWS + b"1,1.5\n", "score 1.5 of example 40 is not a probability in [0, 1]: say --outputs logits"),
        ("t.csv", b"y,p\n" + ROWS + b"1,-0.5\n", "score -0.5 of example 40 is not a probability in [0, 1]: say --outputs logits"),
        ("t.csv", b"y,p,y\n" + b"1,0.5,1\n" * 9, "t.csv has two columns called 'y': rename one"),
        ("t.csv", b"0,0.5\n" * 9, "t.csv has no header: its first line holds numbers (0, 0.5); name the columns"),
        ("t.csv", b"y,p\n" + ROWS + b"\xff,0.5\n", "cannot read t.csv: "),
        ("t.csv", "y,p\n0,0.5\n".encode("utf-16"), "cannot read t.csv: "),
        ("t.csv", bytes(range(256)) * 20, "cannot read t.csv: "),
        ("t.csv", b"a,b\n" + ROWS, "t.csv has no column called y, label, labels, target, y_true ...: say which holds the labels with --label"),
        ("t.csv", b"y,b\n" + ROWS, "t.csv has no column called p, score, scores, prob or y_pred: say which hold the scores with --score"),
        ("t.csv", b"y,p\n" + b"yes,0.5\n" * 9, "t.csv: column 'y' holds one class only ('yes'): quality cannot be measured on one class"),
        ("t.csv", b"y,p\n" + b"a,0.5\nb,0.5\nc,0.4\n" * 9, "t.csv: column 'y' holds 3 classes (a, b, c ...) and 'p' is one column of scores"),
        ("t.csv", b"y,p_a,p_b\n" + b"a,0.5,0.5\nc,0.5,0.5\n" * 9, "t.csv: column 'y' holds 'c' in data row 2, which is not among the classes"),
        ("t.csv", b"y,p_a,p_b\n" + b"a,0.5,0.4\nb,0.5,0.5\n" * 9, "output of example 0 is declared probabilities but does not sum to 1"),
        ("t.csv", b"y,p_a,p_b\n" + b"a,0.5,nan\nb,0.5,0.5\n" * 9, "output of example 0 holds NaN or infinity (it begins [0.5, nan])"),
        ("t.csv", b"id,y,p\n" + b"7,1,0.5\n8,0,0.5\n7,1,0.5\n", "t.csv: column 'id' holds '7' more than once (data rows 1 and 3)"),
        ("t.parquet", b"PAR1" + b"\x00" * 50, "cannot read t.parquet as Parquet: "),
        ("t.parquet", b"y,p\n" + ROWS, "cannot read t.parquet as Parquet: "),
        ("t.npz", b"y,p\n" + ROWS, "cannot read t.npz as NPZ: "),
        ("t.npz", b"PK\x03\x04junk", "cannot read t.npz as NPZ: "),
        ("t.txt", b"y,p\n" + ROWS, "cannot tell what table t.txt is: give a .csv, .tsv, .parquet or .npz file"),
        ("t.csv", b"y,p,split\n" + b"1,0.5,dev\n0,0.4,train\n" * 9, "t.csv: column 'split' holds dev, train: rows to judge must be called test"),
    ],
)  # fmt: skip
def test_a_bad_file_is_one_line(here, says, name, content, message):
    (here / name).write_bytes(content)
    assert says(name, "--out", "eval").startswith(message)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"id": [*COLUMNS["id"][:-1], "#new"]}, "1 keys of b.csv are not in preds.csv (first: '#new'): both must answer the same examples"),
        ({"y": [1 - Y[0], *Y[1:]]}, "preds.csv and b.csv disagree on the label of #0: the files hold other labels"),
        ({"y": ["yes" if v else "no" for v in Y]}, "preds.csv and b.csv have other classes: 0, 1 and no, yes"),
    ],
)  # fmt: skip
def test_other_examples_are_not_compared(here, says, change, message):
    write(here / "b.csv", COLUMNS | change)
    assert says("preds.csv", "--compare", "b.csv", "--key", "id", "--out", "eval") == message


def test_examples_that_one_model_lacks_are_named(here, says):
    write(here / "b.csv", {name: values[:-2] for name, values in COLUMNS.items()})
    assert says("preds.csv", "--compare", "b.csv", "--key", "id", "--out", "eval") == (
        "2 keys of preds.csv are not in b.csv (first: '#198'): both must answer the same examples"
    )


def test_files_of_other_lengths_are_not_compared(here, says):
    short = {name: values[:-1] for name, values in COLUMNS.items() if name != "id"}
    write(here / "b.csv", short)
    assert says("preds.csv", "--compare", "b.csv", "--out", "eval") == (
        "preds.csv has 200 examples and b.csv 199: say with --key which column tells which is which"
    )


# --- files that are odd, and good ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "names",
    [("</script>", "🐈"), ("a b", " a"), ("x" * 400, "y"), ('say "no"', "a,b"), ("two\nlines", "one"), ("0", "1"), ("-1", "1"), ("=1+1", "@x")],
)  # fmt: skip
def test_classes_may_be_called_anything(here, steelyard, unrendered, names):
    write(here / "t.csv", {"y": [names[v] for v in Y], "p": P.tolist()})
    ran = steelyard("evaluate", "t.csv", "--positive", names[1], "--json", "--out", "eval")
    assert ran.status == 0, ran
    found = json.loads(ran.out)
    assert found["classes"] == list(names)
    assert found["models"][0]["metrics"]["roc_auc"]["value"] == pytest.approx(roc_auc_score(Y, P))
    assert steelyard("report", "eval", "--quiet").status == 0


@pytest.mark.slow
def test_a_class_called_script_does_no_harm_to_the_page(here, steelyard):
    write(here / "t.csv", {"y": [("</script><script>alert(1)", "🐈")[v] for v in Y], "p": P.tolist()})
    assert steelyard("evaluate", "t.csv", "--quiet", "--out", "eval").status == 0
    assert "<script>alert(1)" not in (here / "eval" / "report.html").read_text()


@pytest.mark.parametrize("ends", ["\n", "\r\n"])
def test_what_excel_saves(here, steelyard, unrendered, ends):
    text = (
        "\ufeff"
        + ends.join(["y,p,note", *(f'{y},{p},"two{ends}lines, ""quoted"""' for y, p in zip(Y, P, strict=True))])
        + ends
    )
    (here / "t.csv").write_bytes(text.encode())
    found = json.loads(steelyard("evaluate", "t.csv", "--json", "--out", "eval").out)
    assert found["models"][0]["n"] == N
    assert found["models"][0]["metrics"]["roc_auc"]["value"] == pytest.approx(roc_auc_score(Y, P))


def test_one_class_only_says_which_metrics_are_undefined(here, steelyard, unrendered):
    write(here / "t.csv", {"y": [0] * N, "p": P.tolist()})
    ran = steelyard("evaluate", "t.csv", "--json", "--out", "eval")
    metrics = json.loads(ran.out)["models"][0]["metrics"]
    assert metrics["roc_auc"] == {"undefined": "undefined: 0 positives"}
    assert metrics["recall"] == {"undefined": "undefined: 0 positives"}
    assert metrics["accuracy"]["value"] == pytest.approx(np.mean(P < 0.5))


def test_a_gate_on_what_is_undefined_fails(here, steelyard, unrendered):
    write(here / "t.csv", {"y": [0] * N, "p": P.tolist()})
    ran = steelyard("evaluate", "t.csv", "--fail-under", "recall=0.5", "--json", "--out", "eval")
    assert ran.status == 1
    assert json.loads(ran.out)["gates"][0]["outcome"] == "undefined"


def test_an_empty_slice_is_said(here, steelyard, unrendered):
    found = json.loads(steelyard("evaluate", "preds.csv", "--slice", "age=5,18,95", "--json", "--out", "eval").out)
    empty = [s for s in found["models"][0]["slices"] if s["n"] == 0]
    assert len(empty) == 3
    assert all(s["verdict"] == "too few" and s["score"] == {"undefined": "undefined: no examples"} for s in empty)


@pytest.mark.slow
def test_ten_thousand_classes(here, steelyard):
    """Scores of 10,000 classes, and predicted classes alone, in a minute or two and half a gigabyte."""
    rng = np.random.default_rng(0)
    names = [f"class {i}" for i in range(10_000)]
    write(here / "hard.csv", {"y": names, "pred": rng.permutation(names).tolist()})
    shares = rng.random((200, 10_000), dtype=np.float32)
    np.savez(here / "soft.npz", y=rng.integers(0, 10_000, 200), p=shares / shares.sum(axis=1, keepdims=True))
    for path in ("hard.csv", "soft.npz"):
        start = time.monotonic()
        ran = steelyard("evaluate", path, "--json", "--out", path.partition(".")[0])
        assert ran.status == 0, ran.err
        assert len(json.loads(ran.out)["classes"]) == 10_000
        assert (here / path.partition(".")[0] / "report.html").stat().st_size < 4e6
        assert time.monotonic() - start < 200
