"""Configurations of inference servers around the delivered model.

Triton: https://github.com/triton-inference-server/common/blob/main/protobuf/model_config.proto. OpenVINO Model Server:
https://docs.openvino.ai/2025/model-server/ovms_docs_parameters.html. Both look for a model in a folder NAME/VERSION; the
model's files there are hard links to those of the deployed folder, so they take no room and are the files that were proved.
Where the file system has no hard links they are copies.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from steelyard.measure.weigh import read_parity
from steelyard.records import Measurement, Sample, Scalar
from steelyard.subject.artifact import Artifact, model_files

__all__ = ["Batching", "batching", "write_ovms", "write_triton"]

WORTH = 1.05  # a larger batch must serve so much more
NEAR = 0.9  # a batch is preferred if it serves this share of what the best does
WAITS = 0.5  # of the latency of one example, that a request may wait for others
_TYPES = {"float32": "FP32", "float16": "FP16", "float64": "FP64", "int32": "INT32", "int64": "INT64", "uint8": "UINT8"}
_BACKENDS = {"onnxruntime": "onnxruntime", "openvino": "openvino", "torch": "python"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Batching:
    """What a server may put together. ``preferred`` is empty where larger batches serve no more."""

    most: int
    preferred: tuple[int, ...] = ()
    wait_us: int = 0


def batching(measured: Measurement | None, fixed: int | None) -> Batching:
    """From the rates that were measured by batch size: sizes that serve nearly as much as the best, and the largest of them.

    A request waits for others at most half as long as one example takes. A model whose batch axis is fixed is not batched.
    """
    if fixed is not None:
        return Batching(most=0)
    rates = (
        {} if measured is None else {int(r.conditions["batch"] or 1): r.value for r in measured.all("throughput_per_s")}
    )
    if not rates:
        return Batching(most=8)
    best = max(rates.values())
    near = tuple(sorted(size for size, rate in rates.items() if size > 1 and rate >= NEAR * best))
    if best < WORTH * rates.get(1, 0.0) or not near:
        return Batching(most=max(rates))
    latency = measured.get("latency_s", batch=1) if measured is not None else None
    wait_us = round(1e6 * WAITS * latency.value) if isinstance(latency, Sample) else 0
    return Batching(most=max(near), preferred=near, wait_us=wait_us)


def write_triton(folder: Path, artifact: Artifact, name: str, measured: Measurement | None) -> None:
    """``triton/NAME``: ``config.pbtxt``, the classes' names, and the model in ``1/``.

    A torch.export program runs by Triton's Python backend, for its PyTorch backend takes TorchScript and compiled packages.
    """
    if artifact.engine not in _BACKENDS:
        return
    ends = _ends(artifact)
    home = folder / "triton" / name
    _link_model(folder, home / "1")
    if artifact.engine == "torch":
        (home / "1" / "model.py").write_text(_PYTHON.format(file=artifact.file), encoding="utf-8")
    if artifact.contract.labels:
        (home / "labels.txt").write_text("".join(f"{label}\n" for label in artifact.contract.labels), encoding="utf-8")
    config = _config(artifact, name, ends, batching(measured, ends.fixed))
    (home / "config.pbtxt").write_text(config, encoding="utf-8")


def write_ovms(folder: Path, artifact: Artifact, name: str) -> None:
    """``ovms/config.json`` and ``ovms/NAME/1``, for models that OpenVINO reads; paths are relative to the configuration."""
    if artifact.engine not in ("openvino", "onnxruntime", "tflite"):
        return
    _link_model(folder, folder / "ovms" / name / "1")
    options = artifact.options if artifact.engine == "openvino" else {}
    settings = {
        "PERFORMANCE_HINT": str(options.get("hint") or "latency").upper(),
        "INFERENCE_PRECISION_HINT": str(options.get("precision") or "f32"),
        **_counts(options),
    }
    device = str(options.get("device") or "CPU")
    config = {"name": name, "base_path": name, "target_device": device, "plugin_config": settings}
    document = json.dumps({"model_config_list": [{"config": config}]}, indent=2)
    (folder / "ovms" / "config.json").write_text(document + "\n", encoding="utf-8")


def _link_model(folder: Path, where: Path) -> None:
    where.mkdir(parents=True)
    for path in model_files(folder):
        try:
            os.link(path, where / path.name)
        except OSError:  # no hard links here
            shutil.copyfile(path, where / path.name)


# --- Triton ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ends:
    """What the model's own file calls its input and output, what that output is, and the fixed batch size."""

    input: str
    output: str
    fixed: int | None
    kind: str  # dtype of the outputs
    classes: int


def _ends(artifact: Artifact) -> _Ends:
    _, outputs, _ = read_parity(artifact.folder / "parity.npz")
    named = _names(artifact)
    return _Ends(**named, kind=str(outputs.dtype), classes=outputs.shape[1])


def _names(artifact: Artifact) -> dict[str, Any]:
    if artifact.engine == "onnxruntime":
        from steelyard.subject.engines.onnxruntime import open_session

        session = open_session(artifact.path)
        first, last = session.get_inputs()[0], session.get_outputs()[0]
        return {"input": first.name, "output": last.name, "fixed": _whole(first.shape[0])}
    if artifact.engine == "openvino":
        from steelyard.subject.engines.openvino import open_model

        model = open_model(artifact.path)
        shape = model.input(0).partial_shape
        fixed = None if shape[0].is_dynamic else shape[0].get_length()
        return {"input": _tensor(model.input(0)), "output": _tensor(model.output(0)), "fixed": fixed}
    from steelyard.subject.engines import load_runner

    return {"input": "INPUT__0", "output": "OUTPUT__0", "fixed": load_runner(artifact).fixed_batch}


def _whole(size: Any) -> int | None:
    return size if isinstance(size, int) else None


def _tensor(port: Any) -> str:
    """The name by which OpenVINO's servers know an input or output: a tensor's, else its operation's."""
    names = sorted(port.get_names())
    return str(names[0] if names else port.get_node().get_friendly_name())


def _config(artifact: Artifact, name: str, ends: _Ends, batches: Batching) -> str:
    contract = artifact.contract
    whole = () if ends.fixed is None else (ends.fixed,)
    labels = f"\n    label_filename: {_quoted('labels.txt')}" if contract.labels else ""
    file = "model.py" if artifact.engine == "torch" else artifact.file
    return f"""name: {_quoted(name)}
backend: {_quoted(_BACKENDS[artifact.engine])}
default_model_filename: {_quoted(file)}
max_batch_size: {batches.most}
input [
  {{
    name: {_quoted(ends.input)}
    data_type: {_type(contract.dtype)}
    dims: [ {_numbers((*whole, *contract.shape))} ]
  }}
]
output [
  {{
    name: {_quoted(ends.output)}
    data_type: {_type(ends.kind)}
    dims: [ {_numbers((*whole, ends.classes))} ]{labels}
  }}
]
instance_group [
  {{
    count: 1
    kind: KIND_CPU
  }}
]
{_dynamic(batches)}{_parameters(artifact)}"""


def _type(dtype: str) -> str:
    return f"TYPE_{_TYPES[dtype]}"


def _dynamic(batches: Batching) -> str:
    """Nothing where a batch serves no more than its examples one by one."""
    if not batches.preferred:
        return ""
    return f"""dynamic_batching {{
  preferred_batch_size: [ {_numbers(batches.preferred)} ]
  max_queue_delay_microseconds: {batches.wait_us}
}}
"""


def _parameters(artifact: Artifact) -> str:
    """The artifact's options in the names of Triton's backends."""
    options = artifact.options
    found: dict[str, str] = {}
    if artifact.engine == "openvino":
        found["PERFORMANCE_HINT"] = str(options.get("hint") or "latency").upper()
        found |= {"HINT_BF16": "YES"} if options.get("precision") == "bf16" else {}
        found |= {name: str(count) for name, count in _counts(options).items()}
    elif artifact.engine == "onnxruntime" and options.get("threads"):
        found["intra_op_thread_count"] = str(options["threads"])
    return "".join(
        f"parameters {{\n  key: {_quoted(key)}\n  value {{\n    string_value: {_quoted(value)}\n  }}\n}}\n"
        for key, value in found.items()
    )


def _counts(options: Mapping[str, Scalar]) -> dict[str, int]:
    """OpenVINO's numbers of streams and threads, where they are given."""
    given = {"NUM_STREAMS": options.get("streams"), "INFERENCE_NUM_THREADS": options.get("threads")}
    return {name: int(count) for name, count in given.items() if count}


def _numbers(values: tuple[int, ...]) -> str:
    return ", ".join(map(str, values))


def _quoted(text: str) -> str:
    """A string of protobuf's text format, whose escapes of quotes, backslashes and control characters are JSON's.

    >>> _quoted('a "b"')
    '"a \\\\"b\\\\""'
    """
    return json.dumps(text, ensure_ascii=False)


_PYTHON = '''"""Runs the exported program for Triton's Python backend."""

import os

import torch
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        path = os.path.join(args["model_repository"], args["model_version"], "{file}")
        self.module = torch.export.load(path).module()

    def execute(self, requests):
        responses = []
        for request in requests:
            inputs = torch.from_numpy(pb_utils.get_input_tensor_by_name(request, "INPUT__0").as_numpy())
            with torch.no_grad():
                outputs = self.module(inputs).numpy()
            tensor = pb_utils.Tensor("OUTPUT__0", outputs)
            responses.append(pb_utils.InferenceResponse(output_tensors=[tensor]))
        return responses
'''
