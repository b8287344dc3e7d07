"""PyTorch: exported programs (.pt2), as they are or compiled."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from os import environ
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from steelyard.errors import CannotApply, InvalidInput, MissingExtra
from steelyard.subject.artifact import Artifact
from steelyard.subject.engines import Slice, in_pieces, operator_totals, timed
from steelyard.subject.program import check_program

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = ["TorchProfiling", "TorchRunner", "layer_of", "load", "one_tensor", "open_program", "signature"]


class TorchRunner:
    """A module called on NumPy arrays without gradients; ``module`` is there for counting.

    ``node_layers`` are, for an exported program, the layers that the nodes of its graph came from. On another ``device``
    than the processor a call holds both copies, and so ends when the result is there.
    """

    def __init__(
        self,
        module: nn.Module,
        call: Callable[[Any], Any] | None = None,
        *,
        batch: int | None = None,
        device: str = "cpu",
    ) -> None:
        import torch

        self.module = module if device == "cpu" else _moved(module, device)
        self.node_layers = _node_layers(module)
        self.device = device
        self._plain = call is None
        self._batch = batch  # where the module's batch axis is fixed
        self._call = module if call is None else call  # truth of a compiled module is its length, which programs lack
        self._torch = torch
        self._grad_mode = torch.inference_mode if call is None else torch.no_grad

    def __call__(self, inputs: NDArray[Any], /) -> NDArray[Any]:
        if self._batch is not None and len(inputs) != self._batch:
            return in_pieces(self, inputs, self._batch)
        return self.through(self._call, inputs)

    @property
    def fixed_batch(self) -> int | None:
        return self._batch

    def through(self, call: Callable[[Any], Any], inputs: NDArray[Any]) -> NDArray[Any]:
        """Outputs of `call`, which takes and gives tensors, under the conditions that the model runs in."""
        with self._grad_mode():
            tensor = self._torch.from_numpy(inputs)
            if self.device == "cpu":
                outputs: NDArray[Any] = one_tensor(call(tensor)).numpy()
            else:
                outputs = one_tensor(call(tensor.to(self.device))).cpu().numpy()
        return outputs

    def operator_seconds(self, inputs: NDArray[Any], runs: int) -> Mapping[str, tuple[float, int]]:
        profiling = self.profiling(inputs, layers=False)
        profiling.turn(runs)
        return operator_totals(profiling.slices(), runs)

    def profiling(self, inputs: NDArray[Any], /, *, layers: bool = True) -> TorchProfiling:
        """See `Runner.profiling`; with `layers` each module's call is a slice too, unless the model is compiled."""
        inputs = inputs if self._batch is None else np.resize(inputs, (self._batch, *inputs.shape[1:]))
        return TorchProfiling(self, inputs, layers=layers and self._plain)


class TorchProfiling:
    """The module under `torch.profiler`, and in each turn only; what is put around each module's `forward` marks its layer.

    Hooks would not do: PyTorch's encoder layers leave their fused path where one is attached. An exported program has no
    modules to call: it is run node by node, and the marks follow the layers that its nodes came from.
    """

    def __init__(self, runner: TorchRunner, inputs: NDArray[Any], *, layers: bool) -> None:
        self._runner, self._inputs, self._layers = runner, inputs, layers
        self._seen: list[Slice] = []
        self._runs = 0
        runner(inputs)

    def turn(self, calls: int) -> NDArray[np.float64]:
        from torch.profiler import ProfilerActivity, profile, record_function

        kinds = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if self._runner.device != "cpu" else [])
        with self._call() as call, profile(activities=kinds) as profiler:

            def marked() -> None:
                with record_function(_CALL):
                    call(self._inputs)

            times = timed(marked, calls)
        self._read(profiler.events())
        return times

    @contextmanager
    def _call(self) -> Iterator[Callable[[NDArray[Any]], NDArray[Any]]]:
        """What is to be profiled: the runner as it is, or with its layers marked."""
        runner = self._runner
        if not self._layers:
            yield runner
        elif runner.node_layers:
            run = _marking_nodes(runner.module, runner.node_layers)
            yield lambda inputs: runner.through(run, inputs)
        else:
            marked = _mark_modules(runner.module)
            try:
                yield runner
            finally:
                for layer in marked:
                    del layer.forward

    def _read(self, events: Any) -> None:
        calls = [event for event in events if event.name == _CALL and event.cpu_parent is None and _on_host(event)]
        for event in calls:
            self._seen += _beneath(event, self._runs, event.time_range.start, "", outermost=True)
            self._runs += 1
        self._seen += _kernels(events, calls, self._runs - len(calls))

    def slices(self) -> tuple[Slice, ...]:
        return tuple(self._seen)


_CALL, _LAYER = "steelyard: call", "layer: "


def _on_host(event: Any) -> bool:
    return bool(event.device_type.name == "CPU")


def _beneath(event: Any, run: int, origin: float, layer: str, *, outermost: bool) -> Iterator[Slice]:
    """Slices of what an event called, and of what that called. The profiler's times are microseconds."""
    for child in event.cpu_children:
        marked = child.name.startswith(_LAYER)
        within = child.name.removeprefix(_LAYER) if marked else layer
        yield Slice(
            name=within if marked else child.name,
            layer=within,
            run=run,
            start_s=(child.time_range.start - origin) / 1e6,
            seconds=child.cpu_time_total / 1e6,
            self_s=max(0.0, child.self_cpu_time_total / 1e6),
            kind="layer" if marked else "operator",
            outermost=outermost,
            device_s=child.device_time_total / 1e6,
        )
        yield from _beneath(child, run, origin, within, outermost=outermost and marked)


def _kernels(events: Any, calls: Sequence[Any], first: int) -> Iterator[Slice]:
    """What ran on the accelerator: a call waits for its result, so a kernel belongs to the last call begun before it."""
    starts = np.array([call.time_range.start for call in calls])
    for event in events:
        run = int(np.searchsorted(starts, event.time_range.start, side="right")) - 1
        if _on_host(event) or run < 0 or event.name.startswith((_CALL, _LAYER)):
            continue
        seconds = (event.time_range.end - event.time_range.start) / 1e6
        yield Slice(
            name=event.name,
            layer="",
            run=first + run,
            start_s=(event.time_range.start - starts[run]) / 1e6,
            seconds=seconds,
            self_s=seconds,
            kind="kernel",
        )


def _mark_modules(module: nn.Module) -> list[Any]:
    """Put a mark around each named module's `forward`; the modules that took one."""
    marked = []
    for name, layer in module.named_modules():
        if name and "forward" not in vars(layer) and not _is_scripted(layer):
            layer.forward = _marking(name, layer.forward)
            marked.append(layer)
    return marked


def _marking(name: str, forward: Callable[..., Any]) -> Callable[..., Any]:
    from torch.profiler import record_function

    def call(*args: Any, **kwargs: Any) -> Any:
        with record_function(_LAYER + name):
            return forward(*args, **kwargs)

    return call


def _is_scripted(module: nn.Module) -> bool:
    import torch

    return isinstance(module, torch.jit.ScriptModule)


def _marking_nodes(module: Any, layers: Mapping[str, str]) -> Callable[[Any], Any]:
    """Run a graph node by node; neighbours of one layer share a mark."""
    from torch import fx
    from torch.profiler import record_function

    class Marking(fx.Interpreter):
        marked: tuple[str, Any] = ("", None)

        def run_node(self, n: fx.Node) -> Any:
            self.enter(layers.get(n.name, "") if n.op.startswith("call") else "")
            return super().run_node(n)

        def enter(self, layer: str) -> None:
            before, mark = self.marked
            if layer == before:
                return
            if mark is not None:
                mark.__exit__(None, None, None)
            fresh: Any = record_function(_LAYER + layer) if layer else None
            self.marked = (layer, fresh)
            if fresh is not None:
                fresh.__enter__()

    return Marking(module).run


def _node_layers(module: nn.Module) -> dict[str, str]:
    """The module path that each node of an exported program's graph came from, where the export kept it."""
    graph = getattr(module, "graph", None)
    layers = {node.name: layer_of(node) for node in getattr(graph, "nodes", ())}
    return {name: layer for name, layer in layers.items() if layer}


def layer_of(node: Any) -> str:
    """The module path that a node of a graph came from; empty where the export kept none."""
    stack = node.meta.get("nn_module_stack")
    return str(list(stack.values())[-1][0]) if stack else ""


def one_tensor(outputs: Any) -> torch.Tensor:
    """A model's outputs, if they are one tensor. Raises `InvalidInput`, naming what there is, for several."""
    import torch

    if isinstance(outputs, torch.Tensor):
        return outputs
    names = list(outputs) if isinstance(outputs, Mapping) else None
    what = f"outputs {', '.join(map(str, names))}" if names else f"a {type(outputs).__name__}"
    if names is None and isinstance(outputs, list | tuple):
        what = f"{len(outputs)} outputs"
    raise InvalidInput(
        f"the model gives {what}; one tensor (n, classes) is needed: wrap it in a module that returns the logits"
    )


def _moved(module: nn.Module, device: str) -> nn.Module:
    import torch

    try:
        return module.to(device)
    except (RuntimeError, AssertionError) as error:  # an AssertionError where PyTorch was built without CUDA
        have = "no accelerator" if not torch.cuda.is_available() else f"{torch.cuda.device_count()} CUDA device(s)"
        raise InvalidInput(f"cannot run on {device!r}: {_first_line(error)}; this machine has {have}") from None


def open_program(path: Path) -> nn.Module:
    """The module of an exported program, after looking the archive through for code."""
    module: nn.Module = _read(path).module()
    return module


def _read(path: Path) -> torch.export.ExportedProgram:
    try:
        import torch
    except ImportError:
        raise MissingExtra("torch", needed_for=f"reading {path.name}") from None
    check_program(path)
    try:
        return torch.export.load(path)
    except Exception as error:  # a damaged graph fails wherever the deserialiser happens to stand
        raise InvalidInput(f"cannot read {path} as an exported program: {_first_line(error)}") from None


def load(artifact: Artifact) -> TorchRunner:
    """Load a .pt2; with the option ``compile`` it is frozen and compiled at the first call, from the on-disk cache if warm.

    ``compile`` is true or a mode of `torch.compile`; with ``dynamic`` one compilation serves all batch sizes.
    """
    program = _read(artifact.path)
    module, batch = program.module(), _fixed_batch(program)
    if not artifact.options.get("compile"):
        return TorchRunner(module, batch=batch, device=str(artifact.options.get("device") or "cpu"))
    mode = artifact.options["compile"]
    dynamic = bool(artifact.options.get("dynamic"))
    return TorchRunner(
        module, compiled(module, mode if isinstance(mode, str) else "default", dynamic=dynamic), batch=batch
    )


def compiled(module: nn.Module, mode: str = "default", *, dynamic: bool = False) -> Callable[[Any], Any]:
    """`torch.compile` with constants folded into the code (frozen). Raises `CannotApply` without a C++ compiler."""
    import torch
    from torch._inductor import config

    if not shutil.which(environ.get("CXX", "g++")):
        raise CannotApply("torch.compile needs a C++ compiler (g++, or the one that CXX names) and none is installed")
    config.freezing = True
    call: Callable[[Any], Any] = torch.compile(module, mode=mode, dynamic=dynamic)
    return call


def signature(path: Path) -> tuple[tuple[int, ...], str, int]:
    """Shape of one example, dtype and number of classes of a .pt2 with one input and one output."""
    program = _read(path)
    inputs, outputs = (_values(program, names) for names in _ends(program))
    if len(inputs) != 1 or len(outputs) != 1:
        names = ", ".join(map(str, (*program.graph_signature.user_inputs, *program.graph_signature.user_outputs)))
        raise InvalidInput(
            f"{path} has {len(inputs)} inputs and {len(outputs)} outputs ({names}); one of each is supported"
        )
    shape, classes = inputs[0].shape[1:], outputs[0].shape[-1:]
    if not shape or not all(isinstance(d, int) for d in shape):
        raise InvalidInput(f"{path}: input has shape {_shown(inputs[0])}; only the batch axis may be open")
    if not classes or not isinstance(classes[0], int):
        raise InvalidInput(f"{path}: output has shape {_shown(outputs[0])}; (n, classes) is needed")
    return tuple(shape), str(inputs[0].dtype).removeprefix("torch."), classes[0]


def _ends(program: torch.export.ExportedProgram) -> tuple[Sequence[Any], Sequence[Any]]:
    return program.graph_signature.user_inputs, program.graph_signature.user_outputs


def _values(program: torch.export.ExportedProgram, names: Sequence[Any]) -> list[Any]:
    """The traced tensors of these names: shapes and dtypes without content."""
    known = {node.name: node.meta.get("val") for node in program.graph.nodes}
    return [value for name in names if hasattr(value := known.get(name), "shape")]


def _shown(value: Any) -> str:
    return "(" + ", ".join(str(d) if isinstance(d, int) else "?" for d in value.shape) + ")"


def _fixed_batch(program: torch.export.ExportedProgram) -> int | None:
    first = next(iter(_values(program, _ends(program)[0])), None)
    size = None if first is None or not len(first.shape) else first.shape[0]
    return size if isinstance(size, int) else None


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
