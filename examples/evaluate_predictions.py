"""Saved predictions of two models, judged and compared from Python: no deep-learning framework is used.

    python examples/evaluate_predictions.py runs/example

Two classifiers from scikit-learn learn to tell malignant from benign tumours (its built-in breast cancer data). What they
say of other patients is saved as CSV, as any framework could save it, and Steelyard reads the files.
"""

import csv
import sys
from pathlib import Path

from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import steelyard

CLASSIFIERS = {
    "logistic": make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)),
    "forest": RandomForestClassifier(100, random_state=0),
}


def save_predictions(folder: Path) -> list[Path]:
    """One file a model: a key, the split, the label, the probability of "malignant", and a column to slice by."""
    folder.mkdir(parents=True, exist_ok=True)
    data = load_breast_cancer()
    labels = ["benign" if benign else "malignant" for benign in data.target]
    train, rest = train_test_split(range(len(labels)), train_size=0.4, stratify=labels, random_state=0)
    validation, test = train_test_split(rest, train_size=0.3, stratify=[labels[i] for i in rest], random_state=0)
    files = []
    for name, model in CLASSIFIERS.items():
        model.fit(data.data[train], [labels[i] for i in train])
        chances = model.predict_proba(data.data)[:, list(model.classes_).index("malignant")]
        files.append(folder / f"{name}.csv")
        with files[-1].open("w", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(["id", "split", "label", "p", "radius"])
            for split, members in (("validation", validation), ("test", test)):
                rows.writerows([i, split, labels[i], chances[i], data.data[i, 0]] for i in members)
    return files


def compared(folder: Path) -> steelyard.Evaluated:
    """Recall leads, with a threshold chosen on the validation rows; both models answered the same test rows."""
    first, second = save_predictions(folder)
    return steelyard.evaluate(
        first, compare=second, key="id", objective="medical-screening", slices=("radius=3",), out=folder / "evaluation"
    )


def main(folder: Path) -> None:
    """Print each model's scores with their intervals, then what was decided between the two."""
    result = compared(folder)
    for model in result.metrics["models"]:
        print(model["name"])
        for name, score in model["metrics"].items():
            print(f"  {name:20} {score['value']:.3f} ({score['low']:.3f} to {score['high']:.3f})  {score['method']}")
    for difference in result.evaluation.differences:
        if not difference.conditions:  # on all examples, and not on a slice
            print(f"{difference.metric:20} {difference.second}: {difference.outcome}  {difference.advice}".rstrip())
    print(result.report)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/example"))
