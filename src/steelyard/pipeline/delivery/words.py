"""The README of a deployable folder."""

from __future__ import annotations

from typing import Any

from steelyard.records import Contract, Outcome
from steelyard.subject.artifact import Artifact

__all__ = ["readme"]

EXTRAS = {"torch": "torch", "eager": "torch", "onnxruntime": "onnx", "openvino": "openvino", "tflite": "tflite"}
_FORMATS = {
    "torch": "torch.export program (`torch.export.load`)",
    "eager": "PyTorch state dict for the original code",
    "onnxruntime": "ONNX file (`onnxruntime.InferenceSession`)",
    "openvino": "OpenVINO IR (`openvino.Core().compile_model`)",
    "tflite": "TensorFlow Lite file (`ai_edge_litert.interpreter.Interpreter`)",
}


def readme(artifact: Artifact, outcome: Outcome, document: dict[str, Any], name: str) -> str:
    """What the folder is, what was shown of it, and how it is called, served and checked.

    `document` is the manifest's content; `name` is what the servers call the model.
    """
    contract = artifact.contract
    rows = "\n".join(_row(v) for v in document["evidence"]["requirements"]) or "| none was judged | | |"
    parts = [
        f"# {outcome.chosen}\n\n{_standing(outcome)}",
        f"| requirement | outcome | evidence |\n|---|---|---|\n{rows}",
        f"## Call it\n\n{_call(artifact, document)}",
        _prepared(contract),
        "\n".join(f"- {note}" for note in artifact.notes),
        _alone(artifact),
        _served(artifact, name),
        _checked(document),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _prepared(contract: Contract) -> str:
    names = contract.labels
    outputs = f"\nThe {len(names)} outputs are, in order: {', '.join(names)}." if names else ""
    return (
        f"An example is prepared as `(raw * {contract.scale:.6g} - mean) / std` with mean {_list(contract, 'mean')} and std "
        f"{_list(contract, 'std')}.{outputs}"
    )


def _standing(outcome: Outcome) -> str:
    if outcome.chosen.steps:
        return "Every requirement was met on data that nothing had seen."
    found = "Nothing faster met every requirement" if outcome.status == "met" else "Nothing passed"
    return f"{found}; this is the baseline, unchanged."


def _row(verdict: dict[str, Any]) -> str:
    return f"| {verdict['text']} | {verdict['outcome']} | {_span(verdict)} |"


def _span(verdict: dict[str, Any]) -> str:
    if "value" not in verdict:
        return ""
    numbers = f"{verdict['value']:.4g} ({verdict['low']:.4g} to {verdict['high']:.4g}) {verdict['unit']}"
    return f"{numbers}, {verdict['level']:.1%} {verdict['method']}, n = {verdict['n']}"


def _call(artifact: Artifact, document: dict[str, Any]) -> str:
    contract, texts, code = artifact.contract, document["texts"], document["encode"]
    example = '"picture.png"' if sorted(contract.layout) == ["C", "H", "W"] else "example"
    if texts:
        example = '"some text"' if code else "codes"
    opened = 'steelyard.load(".", run_code=True)' if code else 'steelyard.load(".")'
    return f"""```python
import steelyard

model = {opened}  # needs: pip install 'steelyard[{EXTRAS[artifact.engine]}]'
model.predict({example})  # label and probabilities
model(inputs)  # {contract.dtype} array (n, {", ".join(map(str, contract.shape))}) -> {contract.outputs}
```

Many at once, into a table that `steelyard evaluate` reads: `steelyard predict . EXAMPLES --out answers.csv`.{_texts(document)}"""


def _texts(document: dict[str, Any]) -> str:
    if not document["texts"]:
        return ""
    if document["encode"]:
        return f"\nTexts are encoded by `encode/{document['encode'].partition(':')[0]}`, which travelled with the model and is code: read it first."
    return (
        "\nThe model takes texts as numbers, and what makes numbers of them did not travel: the subject named no `encode_files`. "
        "Encode as in training, then call `model(inputs)`."
    )


def _alone(artifact: Artifact) -> str:
    plain = f"## Without Steelyard\n\n`{artifact.file}` is a plain {_FORMATS[artifact.engine]}."
    if artifact.engine == "eager":
        return plain
    return f"""{plain} `predict.py` needs NumPy and the engine alone:

```
pip install -r requirements.txt
python predict.py picture.png        # or a folder of pictures, or an .npy of raw examples
docker build --tag {artifact.engine}-model . && docker run --rm --volume "$PWD/pictures:/data:ro" {artifact.engine}-model /data
```"""


def _served(artifact: Artifact, name: str) -> str:
    if artifact.engine == "eager":
        return ""
    lines = []
    if artifact.engine != "tflite":
        config = f"triton/{name}/config.pbtxt"
        lines.append(f"- Triton: `tritonserver --model-repository=triton` (the model is `{name}`, see `{config}`)")
    if artifact.engine == "torch":
        lines.append("- OpenVINO Model Server does not read PyTorch's programs, so there is no `ovms/`.")
    else:
        lines.append("- OpenVINO Model Server: `ovms --config_path ovms/config.json --rest_port 8000`")
    if artifact.engine in ("onnxruntime", "tflite"):
        lines.append("  It runs the file by OpenVINO; the evidence above is another engine's, so measure again there.")
    return (
        "## Serve it\n\n"
        + "\n".join(lines)
        + "\n\nThe model's files in there are hard links to those beside this file: they take no"
        " room. Tools that do not keep links (`cp -r`, zip) make copies; both work. The container leaves them out."
    )


def _checked(document: dict[str, Any]) -> str:
    words = "## Check it where it will live\n\n```\nsteelyard verify .\n```"
    if document["fallback"]:
        words += (
            "\n\n`fallback/` is the same model before it was quantised. Where the processor lacks the instructions that 8-bit products "
            "need and the outputs differ, `steelyard.load` takes it instead and says so. No requirement was judged for it."
        )
    return words


def _list(contract: Contract, name: str) -> str:
    return ", ".join(f"{v:.4g}" for v in getattr(contract, name))
