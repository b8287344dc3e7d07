"""Exported programs from strangers: each way of the format to run code is tried, and each is refused unrun.

The attacks are real: where it is cheap, a test shows that PyTorch itself would run the code.
"""

import contextlib
import json
import os
import pickle
import zipfile

import pytest

from steelyard.errors import InvalidInput, UnsafeFile
from steelyard.subject.engines.torch import open_program, signature
from steelyard.subject.program import check_program

torch = pytest.importorskip("torch")


class Evil:
    def __init__(self, flag):
        self.flag = flag

    def __reduce__(self):
        return (os.mkdir, (str(self.flag),))


class Shapes(torch.nn.Module):
    """Enough arithmetic on sizes that expressions and guards come out."""

    def forward(self, x):
        n = x.shape[0]
        return x.reshape(n // 2 * 2, -1)[: n * 2 - 1]


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    path = tmp_path_factory.mktemp("program") / "model.pt2"
    example = (torch.rand(4, 8),)
    torch.export.save(torch.export.export(Shapes(), example, dynamic_shapes=({0: torch.export.Dim.AUTO},)), path)
    return path


@pytest.fixture
def forge(program, tmp_path):
    """The program again with parts changed, added or doubled."""

    def write(edit_graph=None, parts=None, twice=None):
        path = tmp_path / "model.pt2"
        with zipfile.ZipFile(program) as old, zipfile.ZipFile(path, "w") as new:
            for name in old.namelist():
                content = old.read(name)
                short = name.partition("/")[2]
                if edit_graph and short == "models/model.json":
                    graph = json.loads(content)
                    edit_graph(graph)
                    content = json.dumps(graph).encode()
                new.writestr(name, (parts or {}).get(short, content))
            present = {n.partition("/")[2] for n in old.namelist()}
            for short, content in (parts or {}).items():
                if short not in present:
                    new.writestr(f"model/{short}", content)
            if twice:
                new.writestr(f"model/{twice.upper()}", b"")
        return path

    return write


def refused(path, words):
    with pytest.raises(UnsafeFile) as error:
        check_program(path)
    assert str(error.value) == (
        f"{path} could run code when opened ({words}), so it was not: "
        "give ONNX, or file.py:function with weights in safetensors"
    )


def chars(text):
    """Code without quotes: letters, digits, brackets and plus signs."""
    return "exec(" + "+".join(f"chr({ord(c)})" for c in text) + ")"


def test_an_honest_program_is_opened(program, forge):
    check_program(program)
    assert open_program(forge())(torch.rand(4, 8)).shape == (4, 8)


class Recurrent(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.lstm = torch.nn.Embedding(50, 8), torch.nn.LSTM(8, 8, batch_first=True)

    def forward(self, x):
        return self.lstm(self.embed(x))[0].mean(1)


class Attentive(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)

    def forward(self, x):
        return self.layer(x)[:, 0]


class Branching(torch.nn.Module):
    def forward(self, x):
        with torch.no_grad():
            y = x * 2
        return torch.cond(x.sum() > 0, torch.sin, torch.cos, (y,))


@pytest.mark.filterwarnings("ignore")  # the tracer's own
@pytest.mark.parametrize(
    ("module", "example", "found"),
    [
        (Recurrent, torch.zeros(2, 7, dtype=torch.long), ((7,), "int64", 8)),
        (Attentive, torch.rand(2, 5, 16), ((5, 16), "float32", 16)),
        (Branching, torch.rand(2, 3), ((3,), "float32", 3)),
    ],
)
def test_honest_programs_of_other_kinds_are_opened(tmp_path, module, example, found):
    exported = torch.export.export(module().eval(), (example,), dynamic_shapes=({0: torch.export.Dim("n")},))
    torch.export.save(exported, tmp_path / "model.pt2")
    assert signature(tmp_path / "model.pt2") == found


def test_the_sizes_of_an_honest_program_are_expressions_and_guards(program):
    with zipfile.ZipFile(program) as archive:
        text = archive.read("model/models/model.json").decode()
    assert "expr_str" in text
    assert json.loads(text)["guards_code"]


# --- pickles ---------------------------------------------------------------------------------------


def test_example_inputs_with_code(forge, tmp_path):
    flag = tmp_path / "ran"
    path = forge(parts={"data/sample_inputs/model.pt": pickle.dumps((Evil(flag),))})
    refused(path, "data/sample_inputs/model.pt is a pickle of more than tensors")
    for opening in (open_program, signature):
        with pytest.raises(UnsafeFile):
            opening(path)
    assert not flag.exists()


def test_pytorch_itself_would_have_run_it(forge, tmp_path):
    flag = tmp_path / "ran"
    path = forge(parts={"data/constants/model_constants_config.json": _config("opaque_obj_0", use_pickle=True),
                        "data/constants/opaque_obj_0": pickle.dumps(Evil(flag))})  # fmt: skip
    with contextlib.suppress(Exception):  # whatever comes of it afterwards
        torch.export.load(path)
    assert flag.exists()
    refused(path, "part data/constants/opaque_obj_0")


def _config(place, use_pickle=False):
    entry = {"path_name": place, "is_param": False, "use_pickle": use_pickle, "tensor_meta": None}
    return json.dumps({"config": {"c": entry}}).encode()


@pytest.mark.parametrize("place", ["opaque_obj_0", "opaque_objects/tensor_0", "custom_obj_0", "../tensor_0"])
def test_constants_that_are_objects(forge, tmp_path, place):
    flag = tmp_path / "ran"
    path = forge(parts={"data/constants/model_constants_config.json": _config(place)})
    refused(path, f"part data/constants/{place}")
    path = forge(parts={f"data/constants/{place}": pickle.dumps(Evil(flag))})
    refused(path, f"part data/constants/{place}")
    assert not flag.exists()


def test_weights_that_are_pickles_with_code(forge, tmp_path):
    flag = tmp_path / "ran"
    path = forge(
        parts={
            "data/weights/model_weights_config.json": _config("weight_0", use_pickle=True),
            "data/weights/weight_0": pickle.dumps(Evil(flag)),
        }
    )
    refused(path, "data/weights/weight_0 is a pickle of more than tensors")
    assert not flag.exists()


# --- other parts -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "part",
    [
        "data/aotinductor/model/lib.so",
        "version",
        "serialized_state_dict.pt",
        "data/weights/model.pt",
        "../evil",
        "models/../x.json",
    ],
)
def test_parts_that_no_export_has(forge, part):
    refused(forge(parts={part: b"x"}), f"part {part}")


def test_two_parts_of_one_name(forge):
    with pytest.raises(UnsafeFile, match="could run code when opened"):
        check_program(forge(twice="models/model.json"))


# --- the graph -------------------------------------------------------------------------------------


def _nodes(graph):
    return graph["graph_module"]["graph"]["nodes"]


@pytest.mark.parametrize(
    "target",
    [
        "torch.os.system",
        "torch.ops.load_library",
        "torch.ops.aten.from_file.default",
        "torch._C._pickle_load_obj",
        "torch.load",
        "_operator.methodcaller",
        "_operator.call",
        "math.__loader__.load_module",
        "builtins.eval",
        "#evil.op",
    ],
)
def test_operators_that_are_none(forge, target):
    def edit(graph):
        _nodes(graph)[0]["target"] = target

    refused(forge(edit), f"an operator reads {target!r}")


@pytest.mark.parametrize(
    "expression",
    [
        "__import__('os').system('touch ran')",
        chars("open('ran', 'w')"),
        "eval(x)",
        "(lambda: 1)()",
        "Symbol('x').__class__",
        "Symbol(open('ran', 'w'))",
        "x.name",
        "[x for x in (1,)]",
        "f'{x}'",
        "Symbol('a b')",
        "x if y else z",
        "1 +",
        "((",
    ],
)
def test_shape_expressions_that_are_no_arithmetic(forge, expression):
    def edit(graph):
        text = json.dumps(graph)
        place = text.index('"expr_str": ') + len('"expr_str": ')
        _, end = json.JSONDecoder().raw_decode(text[place:])
        graph.clear()
        graph.update(json.loads(text[:place] + json.dumps(expression) + text[place + end :]))

    refused(forge(edit), f"a shape expression reads {expression[:40]!r}")


@pytest.mark.parametrize(
    "guard",
    [
        "__import__('os').system('touch ran')",
        "open('ran')",
        "L['x'].numpy().tofile('ran') == 0",
        "L['x'].size(open('ran')) == 0",
        "L['x'].size()[0] == (lambda: 1)()",
        "1); import os; (2",
    ],
)
def test_guards_that_are_no_conditions_on_sizes(forge, guard):
    def edit(graph):
        graph["guards_code"] = [guard]

    refused(forge(edit), f"a shape expression reads {guard[:40]!r}")


def test_names_that_are_code(forge):
    evil = "x=print('ran')"

    def edit(graph):
        graph["graph_module"]["graph"]["inputs"][0]["as_tensor"]["name"] = evil

    refused(forge(edit), f"a name reads {evil!r}")


def test_inputs_that_import_a_factory(forge):
    def edit(graph):
        spec = graph["graph_module"]["module_call_graph"][0]["signature"]
        spec["in_spec"] = spec["in_spec"].replace("builtins.tuple", "collections.defaultdict")

    refused(forge(edit), "inputs or outputs in a default dictionary")


# --- files that are no programs --------------------------------------------------------------------


def test_a_missing_file(tmp_path):
    with pytest.raises(InvalidInput, match="no such file"):
        check_program(tmp_path / "gone.pt2")


def test_a_graph_that_is_no_json(forge):
    path = forge(parts={"models/model.json": b"{"})
    with pytest.raises(InvalidInput) as error:
        check_program(path)
    assert not isinstance(error.value, UnsafeFile)
    assert str(error.value).startswith(f"cannot read {path} as an exported program (.pt2): Expecting property name")


def test_a_graph_that_lacks_what_it_needs_is_one_line(forge):
    with pytest.raises(InvalidInput) as error:
        signature(forge(lambda graph: graph["graph_module"].pop("signature")))
    assert "\n" not in str(error.value)
