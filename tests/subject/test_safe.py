"""Weights from strangers: what is read, what does not fit, and that no code in a file is ever run."""

import pickle
import re

import pytest

from steelyard.errors import InvalidInput, UnsafeFile
from steelyard.subject.safe import load_weights, read_weights, save_weights

torch = pytest.importorskip("torch")
SAFE_WAY = (
    "save the weights with safetensors.torch.save_file(model.state_dict(), 'model.safetensors') and give that file"
)


def net(width=4):
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(3, width), torch.nn.Linear(width, 2))


def refused(call, *arguments, kind=InvalidInput):
    with pytest.raises(kind) as error:
        call(*arguments)
    assert "\n" not in str(error.value)
    return str(error.value)


class Evil:
    """Creates a file when it is unpickled."""

    def __init__(self, flag):
        self.flag = flag

    def __reduce__(self):
        return (open, (str(self.flag), "w"))


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_weights_come_back(tmp_path):
    save_weights(net(), tmp_path / "w.pt")
    assert same(read_weights(tmp_path / "w.pt"), net().state_dict())


def test_safetensors_come_back(tmp_path):
    safetensors = pytest.importorskip("safetensors.torch")
    safetensors.save_file(net().state_dict(), tmp_path / "w.safetensors")
    model = net()
    torch.nn.init.zeros_(model[0].weight)
    load_weights(model, tmp_path / "w.safetensors")
    assert same(model.state_dict(), net().state_dict())


def test_a_checkpoint_with_a_state_dict_inside_is_read(tmp_path):
    torch.save({"epoch": 3, "state_dict": net().state_dict()}, tmp_path / "w.pt")
    assert same(read_weights(tmp_path / "w.pt"), net().state_dict())


def test_a_missing_file(tmp_path):
    path = tmp_path / "gone.pt"
    assert refused(read_weights, path) == f"no such weights file: {path}"


@pytest.mark.parametrize("how", ["torch", "legacy", "pickle"])
def test_a_pickle_with_code_is_refused_and_not_run(tmp_path, how):
    flag, path = tmp_path / "ran", tmp_path / "w.pt"
    content = {"0.weight": Evil(flag)}
    if how == "pickle":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=how == "torch")
    message = refused(read_weights, path, kind=UnsafeFile)
    assert not flag.exists()
    assert message == f"{path} could run code when opened, so it was not: {SAFE_WAY}"


def test_a_whole_saved_module_is_refused(tmp_path):
    torch.save(net(), tmp_path / "w.pt")
    assert refused(read_weights, tmp_path / "w.pt", kind=UnsafeFile).endswith(SAFE_WAY)


def test_a_pickle_with_code_called_safetensors_is_not_run(tmp_path):
    pytest.importorskip("safetensors")
    flag, path = tmp_path / "ran", tmp_path / "w.safetensors"
    path.write_bytes(pickle.dumps(Evil(flag)))
    assert refused(read_weights, path).startswith(f"cannot read weights from {path}: ")
    assert not flag.exists()


@pytest.mark.parametrize("content", [b"", b"hello", bytes(64)])
def test_a_file_that_holds_no_weights(tmp_path, content):
    path = tmp_path / "w.pt"
    path.write_bytes(content)
    assert str(path) in refused(read_weights, path)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
def test_a_truncated_file(tmp_path, share):
    path = tmp_path / "w.pt"
    save_weights(net(400), path)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    assert str(path) in refused(read_weights, path)


@pytest.mark.parametrize(("content", "kind"), [([1, 2], "list"), ({"epoch": 3}, "dict"), (torch.zeros(3), "Tensor")])
def test_a_file_of_something_else(tmp_path, content, kind):
    path = tmp_path / "w.pt"
    torch.save(content, path)
    assert refused(read_weights, path) == f"{path} holds a {kind}, not a state dict of tensors: {SAFE_WAY}"


def test_names_that_do_not_match(tmp_path):
    path = tmp_path / "w.pt"
    torch.save({"0.weight": torch.zeros(4, 3), "head.weight": torch.zeros(1)}, path)
    assert refused(load_weights, net(), path) == (
        f"{path} does not fit the model: 3 names missing ['0.bias', '1.bias'], 1 unknown ['head.weight']"
    )


def test_shapes_that_do_not_match(tmp_path):
    path = tmp_path / "w.pt"
    save_weights(net(5), path)
    assert refused(load_weights, net(4), path) == (
        f"{path} does not fit the model: 0.weight has shape (5, 3), the model's is (4, 3)"
    )


def test_what_does_not_fit_changes_nothing(tmp_path):
    path, model = tmp_path / "w.pt", net(4)
    save_weights(net(5), path)
    with pytest.raises(InvalidInput, match=re.escape(str(path))):
        load_weights(model, path)
    assert same(model.state_dict(), net(4).state_dict())
