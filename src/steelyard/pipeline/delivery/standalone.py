"""Answers of the model in this folder; NumPy and the model's engine are all that it needs, and Pillow for pictures.

    python predict.py picture.png                   the likeliest classes of a picture
    python predict.py FOLDER --out answers.csv      of every picture in a folder
    python predict.py raw.npy --out answers.csv     of raw examples (n, ...), as they are before scaling
    python predict.py --check                       do the stored examples still give the stored outputs?

manifest.json, which lies beside it, says how an example is prepared and how the model is run.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif", ".tif", ".tiff")
BATCH = 32
Array = np.ndarray[Any, Any]


def load(folder: Path = HERE) -> tuple[dict[str, Any], Callable[[Array], Array]]:
    """The manifest, and the model as a function of prepared inputs ``(n, *shape)`` that gives outputs ``(n, classes)``."""
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    engine = {"onnxruntime": _onnxruntime, "openvino": _openvino, "torch": _torch, "tflite": _tflite}.get(
        manifest["engine"]
    )
    if engine is None:
        sys.exit(
            f"this folder holds weights for the code of {(manifest.get('spec') or {}).get('source')}: run that code"
        )
    return manifest, engine(folder / manifest["file"], manifest.get("options") or {})


def prepare(contract: dict[str, Any], raw: Array) -> Array:
    """Inputs from raw examples ``(n, *shape)``: ``(raw * scale - mean) / std``, channel by channel."""
    dtype = np.dtype(contract["dtype"])
    if raw.shape[1:] != tuple(contract["shape"]):
        sys.exit(f"examples have shape {raw.shape[1:]}, the model takes {tuple(contract['shape'])}")
    if dtype.kind != "f":
        return np.ascontiguousarray(raw, dtype=dtype)
    mean, std = (_along_channels(contract, contract[name]) for name in ("mean", "std"))
    return np.ascontiguousarray((raw.astype(np.float32) * np.float32(contract["scale"]) - mean) / std, dtype=dtype)


def read_picture(contract: dict[str, Any], path: Path) -> Array:
    """A picture as a raw example: grey or RGB, 8 bits, fitted to the model's height and width."""
    from PIL import Image, ImageOps

    axes = dict(zip(contract["layout"], contract["shape"], strict=True))
    size = (axes["W"], axes["H"])
    with Image.open(path) as opened:
        image = _eight_bits(opened).convert("L" if axes["C"] == 1 else "RGB")
    if image.size != size:
        fit = ImageOps.fit if contract["resize"] == "crop" else Image.Image.resize
        image = fit(image, size, Image.Resampling.BILINEAR)
    pixels = np.asarray(image, dtype=np.uint8).reshape(axes["H"], axes["W"], axes["C"])
    return np.ascontiguousarray(pixels.transpose(["HWC".index(axis) for axis in contract["layout"]]))


def probabilities(contract: dict[str, Any], outputs: Array) -> Array:
    """Of each class ``(n, classes)``."""
    if contract["outputs"] == "probabilities":
        return outputs
    powers = np.exp(outputs.astype(np.float64) - outputs.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def check(folder: Path = HERE) -> str:
    """An error's text where the stored examples give other outputs than they gave at delivery; else nothing."""
    _, model = load(folder)
    with np.load(folder / "parity.npz") as saved:
        inputs, expected, tolerance = saved["inputs"], saved["outputs"], float(saved["tolerance"])
    outputs = model(inputs)
    if outputs.shape != expected.shape:
        return f"outputs have shape {outputs.shape}, {expected.shape} at delivery"
    difference, allowed = float(np.abs(outputs - expected).max()), tolerance * max(float(expected.std()), 1e-6)
    return (
        ""
        if difference <= allowed
        else f"outputs differ by up to {difference:.2g} from delivery ({allowed:.2g} allowed)"
    )


# --- engines ---------------------------------------------------------------------------------------------


def _onnxruntime(path: Path, options: dict[str, Any]) -> Callable[[Array], Array]:
    import onnxruntime

    levels = {"none": "DISABLE_ALL", "basic": "ENABLE_BASIC", "extended": "ENABLE_EXTENDED", "all": "ENABLE_ALL"}
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = int(options.get("threads") or 0)
    level = levels[str(options.get("level") or "all")]
    settings.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, f"ORT_{level}")
    providers = dict.fromkeys([str(options.get("provider") or "CPUExecutionProvider"), "CPUExecutionProvider"])
    session = onnxruntime.InferenceSession(str(path), settings, providers=list(providers))
    (wanted,) = session.get_inputs()
    name, answer = wanted.name, session.get_outputs()[0].name
    return _in_batches_of(wanted.shape[0], lambda inputs: session.run([answer], {name: inputs})[0])


def _openvino(path: Path, options: dict[str, Any]) -> Callable[[Array], Array]:
    import openvino

    model = openvino.Core().read_model(path)
    settings: dict[str, Any] = {
        "PERFORMANCE_HINT": str(options.get("hint") or "latency").upper(),
        "INFERENCE_PRECISION_HINT": str(options.get("precision") or "f32"),
    }
    counts = {"NUM_STREAMS": options.get("streams"), "INFERENCE_NUM_THREADS": options.get("threads")}
    settings |= {name: int(count) for name, count in counts.items() if count}
    compiled = openvino.Core().compile_model(model, str(options.get("device") or "CPU"), settings)
    shape = model.input(0).partial_shape
    return _in_batches_of(shape.to_shape()[0] if shape.is_static else None, lambda inputs: compiled([inputs])[0])


def _torch(path: Path, _options: dict[str, Any]) -> Callable[[Array], Array]:
    import torch

    module = torch.export.load(path).module()
    sizes = [
        node.meta["val"].shape[0] for node in module.graph.nodes if node.op == "placeholder" and "val" in node.meta
    ]

    def run(inputs: Array) -> Array:
        with torch.no_grad():
            return np.asarray(module(torch.from_numpy(inputs)).numpy())

    return _in_batches_of(sizes[-1] if sizes else None, run)


def _tflite(path: Path, options: dict[str, Any]) -> Callable[[Array], Array]:
    interpreters = import_module("ai_edge_litert.interpreter")
    interpreter = interpreters.Interpreter(model_path=str(path), num_threads=int(options.get("threads") or 0) or None)
    interpreter.allocate_tensors()
    taken, given = interpreter.get_input_details()[0], interpreter.get_output_details()[0]

    def run(inputs: Array) -> Array:
        interpreter.set_tensor(taken["index"], inputs)
        interpreter.invoke()
        return np.asarray(interpreter.get_tensor(given["index"]))

    return _in_batches_of(int(taken["shape"][0]), run)


def _in_batches_of(size: Any, run: Callable[[Array], Array]) -> Callable[[Array], Array]:
    """Where the model's batch axis is fixed, so many examples at once, the last filled up; else all."""
    if not isinstance(size, int):
        return run

    def pieces(inputs: Array) -> Array:
        filled = np.concatenate([inputs, np.repeat(inputs[-1:], -len(inputs) % size, axis=0)])
        parts = [run(np.ascontiguousarray(filled[at : at + size])) for at in range(0, len(filled), size)]
        return np.concatenate(parts)[: len(inputs)]

    return pieces


# --- the command -------------------------------------------------------------------------------------------


def _along_channels(contract: dict[str, Any], values: list[float]) -> Array:
    numbers, axis = np.asarray(values, dtype=np.float32), contract["layout"].find("C")
    return (
        numbers.reshape(())
        if numbers.size == 1
        else numbers.reshape([-1 if i == axis else 1 for i in range(len(contract["shape"]))])
    )


def _eight_bits(image: Any) -> Any:
    """Of a picture of 16 bits the upper 8."""
    from PIL import Image

    if not image.mode.startswith("I"):
        return image
    return Image.fromarray((np.clip(np.asarray(image), 0, 65535) >> 8).astype(np.uint8))


def _examples(contract: dict[str, Any], path: Path) -> Iterator[tuple[list[str], Array]]:
    """Names and raw examples, some at a time."""
    if path.suffix == ".npy":
        raw = np.load(path, mmap_mode="r", allow_pickle=False)
        for at in range(0, len(raw), BATCH):
            yield [str(i) for i in range(at, min(at + BATCH, len(raw)))], np.asarray(raw[at : at + BATCH])
        return
    files = sorted(p for p in path.rglob("*") if p.suffix.lower() in PICTURES) if path.is_dir() else [path]
    for at in range(0, len(files), BATCH):
        part = files[at : at + BATCH]
        names = [str(p.relative_to(path)) if path.is_dir() else str(p) for p in part]
        yield names, np.stack([read_picture(contract, p) for p in part])


def _write(path: Path, out: Any) -> None:
    manifest, model = load()
    contract = manifest["contract"]
    table = csv.writer(out, lineterminator="\n")
    labels = contract["labels"]
    for at, (names, raw) in enumerate(_examples(contract, path)):
        shares = probabilities(contract, model(prepare(contract, raw)))
        classes = labels or [str(i) for i in range(shares.shape[1])]
        if not at:
            table.writerow(["id", "pred", *(f"p_{name}" for name in classes)])
        for name, row in zip(names, shares, strict=True):
            table.writerow([name, classes[int(row.argmax())], *(f"{share:.6g}" for share in row)])


def main() -> None:
    words = argparse.ArgumentParser(description="Answers of the model in this folder.")
    words.add_argument(
        "examples", nargs="?", type=Path, help="a picture, a folder of pictures, or an .npy of raw examples"
    )
    words.add_argument("--out", type=Path, help="a CSV file (standard output)")
    words.add_argument(
        "--check", action="store_true", help="exit with 1 where stored examples give other outputs than stored"
    )
    asked = words.parse_args()
    if asked.check:
        sys.exit(check() or None)
    if asked.examples is None or not asked.examples.exists():
        words.error(
            f"no such file or folder: {asked.examples}" if asked.examples else "name a picture, a folder or an .npy"
        )
    if asked.out is None:
        _write(asked.examples, sys.stdout)
        return
    with asked.out.open("w", newline="", encoding="utf-8") as out:
        _write(asked.examples, out)


if __name__ == "__main__":
    main()
