"""`steelyard evaluate`: its words, and what it shows."""

from __future__ import annotations

import json
import shlex
import sys
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from steelyard.cli.commands import declarations, output

if TYPE_CHECKING:
    from steelyard.api import Evaluated
    from steelyard.pipeline.job import Progress

__all__ = ["draw", "evaluate", "show"]

TASKS = (
    "binary", "multiclass", "multilabel", "regression", "ranking", "language", "answers",
    "detection", "segmentation", "translation", "summary", "speech",
)  # fmt: skip


@click.command()
@click.argument("source")
@click.option(
    "--compare", multiple=True, type=click.Path(), help="Another model on the same examples; may be repeated."
)
@click.option("--key", help="Column that tells examples apart (id).")
@click.option("--label", help="Column of labels, several with commas, or y_* (y, label, target ...).")
@click.option("--score", help="Column of scores, several with commas, or p_* (p, score, prob ...).")
@click.option("--predicted", help="Column of predicted classes (pred, prediction ...).")
@click.option("--query", help="Column of queries: the rows are a ranking.")
@click.option("--text", help="Column of texts, shown with mistakes.")
@click.option("--split", help="Column whose value 'test' is judged; 'validation' and 'train' rows help (split).")
@click.option("--truth", help="References kept in a file of their own: COCO annotations, label maps, lines of text.")
@click.option("--task", type=click.Choice(TASKS), help="What kind of answers these are (told by the columns).")
@click.option(
    "--outputs", type=click.Choice(["probabilities", "logits", "scores"]), default="probabilities", show_default=True,
    help="What the scores are; 'scores' only rank.",
)  # fmt: skip
@click.option("--positive", help="The positive class of two (the last in order).")
@click.option("--threshold", type=float, help="Scores at or above it are positive (0.5).")
@click.option(
    "--slice",
    "slices",
    multiple=True,
    help="Column to slice by; age=10 for ten ranges, age=18,65 for edges; confidence; auto. May be repeated.",
)
@click.option("--cluster", help="Column of the source that examples share, such as a patient.")
@click.option("--stratified", is_flag=True, help="Class sizes were fixed when the examples were drawn.")
@click.option(
    "--metric", "metrics", multiple=True, help="Metric to show; may be repeated (the usual ones of the task)."
)
@click.option(
    "--objective",
    help="What the model is for: balanced, imbalanced, medical-screening, spam-filter, retrieval, ranking, regression ...",
)
@click.option("--target", help="What the threshold must reach: 'recall >= 0.95', or f1 for its maximum.")
@click.option(
    "--costs",
    "--cost",
    "costs",
    help="What mistakes cost, fp=1,fn=10: shown as mean cost, and chooses the threshold where nothing else does.",
)
@click.option("--validation", type=click.Path(), help="Other answers to choose the threshold and temperature on.")
@click.option(
    "--fail-under", multiple=True, help="Exit status 1 if the value of a metric is worse: f1=0.9; may be repeated."
)
@click.option(
    "--require", multiple=True, help="Exit status 1 unless the whole interval keeps it: 'f1 >= 0.9'; may be repeated."
)
@click.option("--level", type=float, default=0.95, show_default=True, help="Confidence of intervals.")
@click.option(
    "--band",
    default="1%",
    show_default=True,
    help="Difference of shares too small to matter: shown to lie inside it, two models are equivalent.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="For splits and resampling.")
@click.option(
    "--data", help="Data of a model: 'digits', a folder, an .npz, .csv or .parquet file, or file.py:function."
)
@click.option("--robustness", is_flag=True, help="Also judge the model on damaged examples, five severities.")
@click.option("--explain", type=click.IntRange(0), default=0, help="Explain so many predictions.")
@click.option(
    "--stream", is_flag=True, help="Two classes in constant memory: larger than memory, areas with a guaranteed bound."
)
@click.option("--tokenizer", help="Tokeniser of BLEU, such as zh for Chinese (13a).")
@click.option("--out", type=click.Path(), help="Run folder (runs/NAME-evaluate).")
@click.option("--figures", is_flag=True, help="Also write every chart as PNG, SVG and PDF into OUT/figures.")
@declarations(skip=("outputs",))
@output
def evaluate(source: str, figures: bool, as_json: bool, quiet: bool, **words: Any) -> int:
    """How good is SOURCE: every metric with its interval, and where it fails.

    SOURCE is a table of saved predictions (.csv, .tsv, .parquet, .npz; no framework needed), or a model: file.py[:function]
    (its code is run), torchvision:NAME, .onnx, .xml, .pt2. Exit status 1 if a gate fails.
    """
    from steelyard import api
    from steelyard.cli.progress import showing

    options = {name: words.pop(name) for name in ("scale", "mean", "std", "labels", "classes", "size", "tokenizer")}
    words["options"] = {name: value for name, value in options.items() if value is not None}
    words["band"] = _share(words["band"])
    command = ("steelyard", *sys.argv[1:]) if len(sys.argv) > 1 else ("steelyard", "evaluate", source)
    with showing(None, quiet=quiet or as_json) as progress:
        result = api.evaluate(source, progress=progress, command=command, **words)
        draw(result, progress, figures=figures)
    show(result, as_json=as_json, quiet=quiet)
    return 0 if result.passed else 1


def _share(words: str) -> float:
    from steelyard.errors import InvalidInput

    try:
        found = float(words.rstrip("% ")) / (100 if words.strip().endswith("%") else 1)
    except ValueError:
        found = -1.0
    if not 0 < found < 1:
        raise InvalidInput(f"--band is a difference of shares, such as 1%; got {words!r}")
    return found


def draw(result: Evaluated, progress: Progress, *, figures: bool) -> None:
    """Write the charts, if asked for."""
    if figures:
        from steelyard.report.evaluation.charts import save_figures

        progress("drawing the figures", None)
        save_figures(result.evaluation, result.folder / "figures")


def show(result: Evaluated, *, as_json: bool, quiet: bool) -> None:
    """Print tables, or one JSON document."""
    from steelyard.report.evaluation import text

    found = result.evaluation
    if as_json:
        document = {**result.metrics, "folder": str(result.folder), "report": str(result.report)}
        click.echo(json.dumps(document, indent=2, ensure_ascii=False))
        return
    if quiet:
        return
    console = Console()
    console.print(text.score_table(found))
    if found.differences:
        console.print(text.difference_table(found))
        console.print(text.difference_notes(found), soft_wrap=True)
    if any(model.slices for model in found.models):
        console.print(text.slice_table(found))
    for model in (m for m in found.models if m.corrupted):
        console.print(text.robustness_table(found, model))
    console.print(text.notes(found), soft_wrap=True)
    if found.gates:
        console.print(text.gate_lines(found), soft_wrap=True)
    console.print(f"metrics   {shlex.quote(str(result.folder / 'metrics.json'))}", markup=False, soft_wrap=True)
    console.print(f"report    {shlex.quote(str(result.report))}", markup=False, soft_wrap=True)
