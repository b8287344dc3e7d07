"""Looking an exported program (.pt2) through before it is opened.

`torch.export.load` unpickles parts of the archive, loads compiled libraries that stand in it, evaluates shape expressions
and guards as Python, finds operators by attribute look-up from the ``torch`` module, and writes names into generated
code. So only what an export needs is let through: known parts, pickles of tensors, operators of the tensor library,
arithmetic, and plain names. Everything else is refused.
"""

from __future__ import annotations

import ast
import io
import json
import pickle
import re
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from steelyard.errors import InvalidInput, UnsafeFile
from steelyard.subject.safe import load_tensors

__all__ = ["check_program"]

_PLAIN = re.compile(
    r"archive_format|archive_version|byteorder|\.data/\w+|extra/.*"
    r"|data/weights/weight_\d+|data/constants/tensor_\d+|data/sample_inputs/[\w.-]+\.pt"
    r"|data/(weights|constants)/[\w-]+_config\.json|models/[\w-]+\.json"
)
_OPERATOR = re.compile(
    r"torch\.ops\.(aten(?!\.from_file)|prim|prims|quantized_decomposed|torchvision|torchao)\.\w+(\.\w+)?"
    r"|torch\.ops\.higher_order\.(cond|while_loop|scan|map_impl|associative_scan|invoke_subgraph|wrap_with_\w+)"
    r"|torch\.sym_\w+|math\.\w+"
    r"|_operator\.(getitem|add|sub|mul|truediv|floordiv|mod|pow|neg|pos|abs|eq|ne|lt|le|gt|ge|and_|or_|not_|xor)"
)
_NAME = re.compile(r"[\w.+:-]*")
_ARITHMETIC = (
    ast.Expression, ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare, ast.Name, ast.Load,
    ast.operator, ast.unaryop, ast.boolop, ast.cmpop,
)  # fmt: skip
_FUNCTION = re.compile(
    "Abs|Add|And|CeilDiv|CeilToInt|CleanDiv|Eq|Equality|Float|FloatPow|FloatTrueDiv|FloorDiv|FloorToInt|Ge|GreaterThan|Gt"
    "|Identity|IntTrueDiv|Integer|IsNonOverlappingAndDenseIndicator|LShift|Le|LessThan|Lt|Max|Min|Mod|ModularIndexing|Mul"
    "|Ne|Not|Or|Pow|PowByNatural|PythonMod|RShift|Rational|RoundDecimal|RoundToInt|StrictGreaterThan|StrictLessThan"
    "|Symbol|ToFloat|TruncToFloat|TruncToInt|Unequality|Where|ceiling|floor"
)


def check_program(path: Path) -> None:
    """Raise `UnsafeFile` unless a .pt2 archive holds tensors and a graph only, `InvalidInput` if it is no such archive.

    PyTorch is needed: its own archive reader is used, so that what is checked is what `torch.export.load` will see.
    """
    import torch

    if not path.is_file():
        raise InvalidInput(f"no such file: {path}")
    try:
        with zipfile.ZipFile(path) as archive:
            seen_by_zipfile = [name.partition("/")[2] for name in archive.namelist()]
        reader = torch._C.PyTorchFileReader(str(path))
        names = reader.get_all_records()
        for name in {*names, *seen_by_zipfile}:
            if not _PLAIN.fullmatch(name):
                raise UnsafeFile(f"part {name}")
        if len({name.casefold() for name in seen_by_zipfile}) < len(seen_by_zipfile):
            raise UnsafeFile("two parts of one name")
        for name in names:
            _check_part(name, reader.get_record)
    except UnsafeFile as found:
        raise UnsafeFile(
            f"{path} could run code when opened ({found}), so it was not: "
            "give ONNX, or file.py:function with weights in safetensors"
        ) from None
    except (OSError, RuntimeError, zipfile.BadZipFile, ValueError, KeyError) as error:
        raise InvalidInput(f"cannot read {path} as an exported program (.pt2): {_first_line(error)}") from None


def _check_part(name: str, read: Callable[[str], bytes]) -> None:
    folder, _, base = name.rpartition("/")
    if base.endswith(".pt"):
        _check_pickle(name, read(name))
    elif base.endswith("_config.json"):
        for entry in json.loads(read(name)).get("config", {}).values():
            part = f"{folder}/{entry['path_name']}"
            if not _PLAIN.fullmatch(part):
                raise UnsafeFile(f"part {part}")
            if entry.get("use_pickle"):
                _check_pickle(part, read(part))
    elif folder == "models":
        _check_graph(json.loads(read(name)))


def _check_pickle(name: str, content: bytes) -> None:
    try:
        load_tensors(io.BytesIO(content))
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError):
        raise UnsafeFile(f"{name} is a pickle of more than tensors") from None


def _check_graph(node: Any, key: str = "") -> None:
    """Every string in a graph, by the key that it stands under."""
    if isinstance(node, dict):
        for name, value in node.items():
            _check_name(name)
            if name != "metadata":  # stack traces and module paths, for people
                _check_graph(value, name)
    elif isinstance(node, list):
        for value in node:
            _check_graph(value, key)
    elif isinstance(node, str):
        _CHECKS.get(key, _check_name)(node)


def _check_name(text: str) -> None:
    if not _NAME.fullmatch(text):
        raise UnsafeFile(f"a name reads {text[:40]!r}")


def _check_operator(text: str) -> None:
    if not _OPERATOR.fullmatch(text):
        raise UnsafeFile(f"an operator reads {text[:40]!r}")


def _check_tree(text: str) -> None:
    """The structure of inputs and outputs: JSON within JSON. A default dictionary would import its factory."""
    if "defaultdict" in text:
        raise UnsafeFile("inputs or outputs in a default dictionary")
    _check_graph(json.loads(text), "tree")


def _check_expression(text: str) -> None:
    """Arithmetic over numbers, symbols and the functions of shapes; sympy would evaluate anything."""
    _check_syntax(text, _is_shape_call)


def _check_guard(text: str) -> None:
    """A condition on the sizes of inputs, such as ``L['x'].size()[0] <= 8``."""
    _check_syntax(text, _is_size)


def _check_syntax(text: str, allowed: Callable[[ast.AST], bool]) -> None:
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise UnsafeFile(f"a shape expression reads {text[:40]!r}") from None
    for node in ast.walk(tree):
        number = isinstance(node, ast.Constant) and isinstance(node.value, int | float)
        if not (number or isinstance(node, _ARITHMETIC) or _is_function(node) or allowed(node)):
            raise UnsafeFile(f"a shape expression reads {text[:40]!r}")


def _is_function(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and bool(_FUNCTION.fullmatch(node.func.id))


def _is_shape_call(node: ast.AST) -> bool:
    """``positive=True``, and the plain name or number in quotes that `Symbol` and `Float` take."""
    if isinstance(node, ast.keyword):
        return node.arg is not None
    return isinstance(node, ast.Constant) and isinstance(node.value, str) and bool(_NAME.fullmatch(node.value))


def _is_size(node: ast.AST) -> bool:
    """The parts of ``L['x'].size()[0]`` and of ``math.inf``."""
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Attribute) and node.func.attr == "size" and not node.args
    if isinstance(node, ast.Attribute):
        return node.attr == "size" or (isinstance(node.value, ast.Name) and node.value.id == "math")
    if isinstance(node, ast.Constant):
        return isinstance(node.value, str) and bool(_NAME.fullmatch(node.value))
    return isinstance(node, ast.Subscript)


_CHECKS: Mapping[str, Callable[[str], None]] = {
    "target": _check_operator,
    "as_operator": _check_operator,
    "expr_str": _check_expression,
    "guards_code": _check_guard,
    "in_spec": _check_tree,
    "out_spec": _check_tree,
    "context": _check_tree,
    "as_string": lambda _: None,  # a constant, written with repr
    "as_strings": lambda _: None,
}


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
