"""From words to a subject: what each kind of words gives, and what is said of words that give nothing."""

import numpy as np
import pytest

from steelyard.errors import InvalidInput
from steelyard.records import SubjectSpec
from steelyard.subject.load import load_subject

torch = pytest.importorskip("torch")

PRELUDE = "import pathlib\nfrom torch import nn\nfrom steelyard import Contract, Subject\n"
GOOD = (
    PRELUDE
    + "C = Contract(shape=(3,), layout='F')\ndef subject():\n    return Subject(model=nn.Linear(3, 2), contract=C)\n"
)


def load(source, **more):
    return load_subject(SubjectSpec(source=str(source), **more))


def refused(source, **more):
    with pytest.raises(InvalidInput) as error:
        load(source, **more)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.fixture
def user_file(tmp_path):
    def write(text):
        path = tmp_path / "user.py"
        path.write_text(text)
        return path

    return write


# --- a user's file ---------------------------------------------------------------------------------


def test_the_function_called_subject_is_taken(user_file):
    found = load(user_file(GOOD), data="digits", seed=4)
    assert isinstance(found.model, torch.nn.Linear)
    assert (found.data, found.seed) == ("digits", 4)


def test_a_function_may_take_the_data(user_file):
    text = GOOD.replace("def subject():", "def net(data):").replace("contract=C)", "contract=C, data=data + '!')")
    assert load(f"{user_file(text)}:net", data="there").data == "there!"


def test_a_file_may_import_its_neighbours(user_file, tmp_path):
    (tmp_path / "steelyard_test_neighbour.py").write_text("WIDTH = 3\n")
    found = load(user_file("from steelyard_test_neighbour import WIDTH\n" + GOOD))
    assert found.model.in_features == 3


def test_data_may_be_a_function_of_a_file(user_file):
    text = GOOD + "def data():\n    return [[([float(i)] * 3, i % 2) for i in range(40)]]\n"
    path = user_file(text)
    splits = load(path, data=f"{path}:data").splits()
    assert [len(s) for _, s in splits.items()] == [24, 8, 8]


def test_given_weights_replace_training(user_file, tmp_path):
    weights = torch.nn.Linear(3, 2).state_dict()
    torch.save(weights, tmp_path / "w.pt")
    text = GOOD.replace("contract=C)", "contract=C, fit=print)")
    found = load(user_file(text), weights=str(tmp_path / "w.pt"))
    assert found.fit is None
    assert torch.equal(found.model.weight, weights["weight"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def (", "{} does not run: SyntaxError: invalid syntax (user.py, line 1)"),
        ("import no_such_thing", "{} does not run: ModuleNotFoundError: No module named 'no_such_thing'"),
        ("raise SystemExit(5)", "{} does not run: SystemExit: 5"),
        ("x = 1", "{} has no function 'subject'; it has none"),
        ("def net(): ...\ndef other(): ...", "{} has no function 'subject'; it has net, other"),
        ("def subject(): return 3", "{} returned int: return steelyard.Subject(model=..., contract=...)"),
        ("def subject(): raise ValueError('two\\nlines')", "{}: subject() failed: ValueError: two"),
        ("def subject(): raise ValueError", "{}: subject() failed: ValueError: ValueError"),
        ("import sys\ndef subject(): sys.exit('no')", "{}: subject() failed: SystemExit: no"),
        (
            GOOD.replace("nn.Linear(3, 2)", "'net.onnx'"),
            "{}: the model is a str: give a torch.nn.Module, or a pathlib.Path to .onnx, .xml or .pt2",
        ),
        (GOOD.replace("nn.Linear(3, 2)", "pathlib.Path('net.onnx')"), "no such file: net.onnx"),
        (
            GOOD.replace("nn.Linear(3, 2)", "pathlib.Path('net.tflite')"),
            "cannot tell what model net.tflite is: give a path ending in .onnx, .xml or .pt2",
        ),
        (GOOD.replace("contract=C", "contract=None"), "the contract is a NoneType: give steelyard.Contract(shape=..., ...)"),
        (
            GOOD.replace("layout='F'", "std=(0.,)"),
            "scale 1.0, mean (0.0,) and std (0.0,) must be finite, and scale and std not 0",
        ),
    ],
)  # fmt: skip
def test_files_that_give_no_subject(user_file, text, message):
    path = user_file(text)
    assert refused(path) == message.format(path)


def test_a_function_that_is_not_there(user_file):
    path = user_file(GOOD)
    assert refused(f"{path}:net") == f"{path} has no function 'net'; it has subject"


def test_a_missing_file(tmp_path):
    assert refused(tmp_path / "gone.py") == f"no such file: {tmp_path / 'gone.py'}"


def test_words_that_are_nothing():
    assert refused("resnet18") == (
        "cannot tell what 'resnet18' is: give file.py:function, torchvision:NAME, or a path ending in .onnx, .xml or .pt2"
    )


# --- torchvision -----------------------------------------------------------------------------------


def test_torchvision_by_name(tmp_path):
    pytest.importorskip("torchvision")
    options = {"classes": 7, "size": 32, "scale": "1/128", "mean": "0.5", "outputs": "probabilities"}
    found = load("torchvision:squeezenet1_1", options=options)
    assert found.model(torch.zeros(1, 3, 32, 32)).shape == (1, 7)
    assert not found.model.training
    contract = found.contract
    assert (contract.shape, contract.scale, contract.mean, contract.outputs) == (
        (3, 32, 32), 1 / 128, (0.5,), "probabilities"
    )  # fmt: skip
    assert contract.std == (0.229, 0.224, 0.225)


def test_an_unknown_torchvision_name_offers_the_nearest():
    pytest.importorskip("torchvision")
    message = refused("torchvision:resnet81")
    assert message.startswith("torchvision has no classifier 'resnet81'; nearest: ")
    assert "resnet18" in message
    assert refused("torchvision:qqqqqq") == "torchvision has no classifier 'qqqqqq'; nearest: none"


def test_weights_of_another_width(tmp_path):
    models = pytest.importorskip("torchvision.models")
    torch.save(models.squeezenet1_1(num_classes=3).state_dict(), tmp_path / "w.pt")
    assert refused("torchvision:squeezenet1_1", weights=str(tmp_path / "w.pt"), options={"classes": 4}) == (
        f"{tmp_path / 'w.pt'} does not fit the model: classifier.1.weight has shape (3, 512, 1, 1), "
        "the model's is (4, 512, 1, 1)"
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mean": "a,b"}, "mean must be numbers with commas between, such as 0.485,0.456,0.406; got 'a,b'"),
        ({"std": "0.2,"}, "std must be numbers with commas between, such as 0.485,0.456,0.406; got '0.2,'"),
        ({"mean": "1,2"}, "2 normalisation values for inputs of shape (3, 224, 224) (CHW)"),
        ({"scale": "1/0"}, "scale must be a number or a quotient such as 1/255, got '1/0'"),
        ({"scale": "big"}, "scale must be a number or a quotient such as 1/255, got 'big'"),
        ({"labels": "gone.txt"}, "cannot read class names from gone.txt: [Errno 2] No such file or directory: 'gone.txt'"),
    ],
)  # fmt: skip
def test_declarations_that_cannot_be_read(options, message):
    pytest.importorskip("torchvision")
    assert refused("torchvision:squeezenet1_1", options=options) == message


# --- model files -----------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino", "torch"])
def test_model_files_tell_their_own_contract(tiny, engine):
    found = load(tiny["conv"].artifacts[engine].path)
    assert found.contract.shape == (1, 8, 8)
    assert found.contract.labels == ("0", "1", "2")
    assert found.contract.layout == "CHW"
    assert load(tiny["mlp"].artifacts[engine].path).contract.layout == "F"


@pytest.mark.parametrize("suffix", [".onnx", ".xml", ".pt2"])
def test_a_missing_model_file(tmp_path, suffix):
    path = tmp_path / f"gone{suffix}"
    assert refused(path) == f"no such file: {path}"


def test_weights_for_a_model_file_are_not_ignored(tiny):
    path = tiny["mlp"].artifacts["onnxruntime"].path
    assert refused(path, weights="w.pt") == f"{path} holds its own weights: leave out --weights w.pt"


def test_labels_from_a_file(tiny, tmp_path):
    (tmp_path / "names.txt").write_text("no\nyes\n")
    options = {"labels": str(tmp_path / "names.txt")}
    assert load(tiny["mlp"].artifacts["onnxruntime"].path, options=options).contract.labels == ("no", "yes")


def test_the_same_words_give_the_same_subject(source_file):
    one, two = (load(f"{source_file}:conv").model.eval() for _ in range(2))
    inputs = torch.from_numpy(np.ones((1, 1, 8, 8), dtype=np.float32))
    assert torch.equal(one(inputs), two(inputs))
