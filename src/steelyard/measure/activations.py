"""Bytes of activations alive at once in one inference, from each engine's own account of its tensors.

Activations are the values that pass from one operator to the next, inputs and outputs of the model included. What an
operator takes and gives back before it ends is workspace and not counted here.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steelyard.records import Unavailable
from steelyard.subject.artifact import Artifact

__all__ = ["Block", "activation_bytes", "arena_peak", "blocks_of", "graph_blocks", "live_peak", "outliving"]

_OPERATOR = re.compile(r"\w+::\w")  # aten::conv2d; scopes such as "Torch-Compiled Region" are none


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One piece of memory: its size, when it was taken and given back, and when the operator that took it ended.

    Times are in any unit that orders them; `freed` is infinite where it lives on, `within` is -infinite outside of operators.
    """

    size: int
    taken: float
    freed: float = float("inf")
    within: float = float("-inf")


def live_peak(blocks: Iterable[Block]) -> int:
    """The most bytes alive at one time; a block given back at the moment another is taken does not meet it.

    >>> live_peak([Block(size=4, taken=0, freed=2), Block(size=3, taken=1, freed=3), Block(size=5, taken=2, freed=4)])
    8
    """
    changes = sorted((time, size) for b in blocks for time, size in ((b.taken, b.size), (b.freed, -b.size)))
    return int(np.cumsum([size for _, size in changes]).max(initial=0))


def outliving(blocks: Iterable[Block]) -> list[Block]:
    """Blocks that live longer than the operator that took them: activations; the others are workspace."""
    return [block for block in blocks if block.freed > block.within]


def activation_bytes(artifact: Artifact, runner: Any, inputs: NDArray[Any]) -> int | Unavailable:
    """Bytes alive at once for `inputs` on the artifact's loaded `runner`, the inputs themselves included."""
    found = _COUNTS[artifact.engine](artifact, runner, inputs)
    return found if isinstance(found, Unavailable) else found + inputs.nbytes


# --- PyTorch: every allocation that its profiler saw -------------------------------------------------


def _torch(_artifact: Artifact, runner: Any, inputs: NDArray[Any]) -> int | Unavailable:
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        runner(inputs)
    return live_peak(outliving(blocks_of(profiler.profiler.kineto_results.experimental_event_tree())))


def blocks_of(tree: Iterable[Any]) -> list[Block]:
    """Allocations in a profiler's event tree, each with its release and the end of the outermost operator around it."""
    events = sorted(_allocations(tree), key=lambda found: found[0].start_time_ns)
    alive: dict[tuple[int, str], Block] = {}
    done: list[Block] = []
    for event, end in events:
        detail = event.extra_fields
        place = (detail.ptr, str(detail.device))
        if detail.alloc_size > 0:
            alive[place] = Block(size=detail.alloc_size, taken=event.start_time_ns, within=end)
        elif place in alive:
            block = alive.pop(place)
            done.append(Block(size=block.size, taken=block.taken, within=block.within, freed=event.start_time_ns))
    return [*done, *alive.values()]


def _allocations(tree: Iterable[Any]) -> Iterator[tuple[Any, float]]:
    waiting: list[tuple[Any, float]] = [(event, float("-inf")) for event in tree]
    while waiting:
        event, end = waiting.pop()
        if event.name == "[memory]":
            yield event, end
        if end == float("-inf") and _OPERATOR.match(event.name):
            end = event.start_time_ns + event.duration_time_ns
        waiting += [(child, end) for child in event.children]


# --- ONNX Runtime: what its arena says after every node ----------------------------------------------


def _onnxruntime(artifact: Artifact, _runner: Any, inputs: NDArray[Any]) -> int | Unavailable:
    from steelyard.subject.engines.onnxruntime import open_session

    with tempfile.TemporaryDirectory() as folder:
        session = open_session(artifact.path, profile_to=Path(folder) / "profile")
        entry = session.get_inputs()[0]
        batch = entry.shape[0] if isinstance(entry.shape[0], int) else len(inputs)
        session.run(None, {entry.name: np.resize(inputs, (batch, *inputs.shape[1:]))})
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    return arena_peak(events)


def arena_peak(events: Iterable[Mapping[str, Any]]) -> int | Unavailable:
    """Most bytes that a session's nodes had asked of the arena, above what it held before the first of them.

    The profile says after each node how many bytes are in use as requested, before rounding to the arena's sizes.
    """
    nodes = [e["args"] for e in events if e.get("cat") == "Node" and e["name"].endswith("_kernel_time")]
    try:
        in_use = [int(node["mem_bytes_requested_in_use"]) for node in nodes]
        before = in_use[0] - int(nodes[0]["mem_requested_in_use_delta"])
    except (KeyError, IndexError):
        return Unavailable(quantity="activation_bytes", reason="this ONNX Runtime's profile says nothing of its arena")
    return max(in_use) - before


# --- OpenVINO: lifetimes in the graph that it executes -----------------------------------------------


def _openvino(_artifact: Artifact, runner: Any, inputs: NDArray[Any]) -> int | Unavailable:
    return live_peak(graph_blocks(runner.executed(inputs)))


def graph_blocks(model: Any) -> list[Block]:
    """Outputs of the nodes of an OpenVINO runtime model, each alive from its node to the last that takes it.

    Constants are weights, and inputs stand in the caller's memory. A ``Reshape`` gives its input on under another shape.
    """
    blocks = []
    for node in model.get_ordered_ops():
        if _info(node, "layerType") in ("Const", "Input", "Output", "Reshape"):
            continue
        place = int(_info(node, "execOrder"))
        for output in node.outputs():
            size = int(np.prod(list(output.shape))) * int(output.get_element_type().size)
            blocks.append(Block(size=size, taken=place, freed=max(_uses(output), default=place) + 0.5))
    return blocks


def _uses(output: Any) -> list[int]:
    """Places in the execution order of all that take `output`, through reshapes."""
    takers = [target.get_node() for target in output.get_target_inputs()]
    reshapes = [node for node in takers if _info(node, "layerType") == "Reshape"]
    return [
        *(int(_info(node, "execOrder")) for node in takers),
        *(use for node in reshapes for there in node.outputs() for use in _uses(there)),
    ]


def _info(node: Any, key: str) -> str:
    return str(node.get_rt_info()[key].astype(str))


_COUNTS: Mapping[str, Callable[[Artifact, Any, NDArray[Any]], int | Unavailable]] = {
    "eager": _torch,
    "torch": _torch,
    "onnxruntime": _onnxruntime,
    "openvino": _openvino,
}
