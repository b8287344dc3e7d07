"""Students: what a rewrite keeps and what it costs, nets by name, and what is learned from the baseline's answers."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import nn

import tiny_models
from pass_contract import PassContract
from steelyard.counts.macs import module_macs
from steelyard.errors import CannotApply, InvalidInput
from steelyard.passes import to_pass
from steelyard.passes.bench import Bench, Built
from steelyard.passes.pairs import layer_pairs
from steelyard.passes.partly import head_of, only_head, reestimate
from steelyard.passes.recover import Recovery, recover
from steelyard.passes.separable import saves, separable_layers, separated
from steelyard.passes.shallow import kept_of, repeated, skip, skippable
from steelyard.passes.students import build_student, enlarge
from steelyard.passes.trainable import Shape, trainable
from steelyard.records import Contract, Step, SubjectSpec
from steelyard.subject.artifact import Artifact, write_manifest
from steelyard.subject.load import load_subject
from steelyard.subject.splits import Split, write_split
from steelyard.subject.subject import Subject
from steelyard.trainer.examples import Examples
from steelyard.trainer.loop import fit, score_of
from steelyard.trainer.recipe import Recipe

Sources = Callable[[str], Artifact]
Apply = Callable[..., Built]


@pytest.fixture(autouse=True)
def _one_core() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Training codes below 50."""
    folder = tmp_path_factory.mktemp("tokens")
    raw = np.random.default_rng(1).integers(0, 50, (40, 16))
    write_split(Split(raw=raw, labels=np.arange(40, dtype=np.int32) % 10), folder, "train")
    return folder


@pytest.fixture
def distilled(tmp_path: Path) -> Apply:
    """Distil an artifact; the new one has its manifest."""

    def applied(
        source: Artifact, *, data: Path | None = None, teacher: Artifact | None = None, **options: Any
    ) -> Built:
        folder = tmp_path / f"distilled-{len(list(tmp_path.glob('distilled-*')))}"
        folder.mkdir()
        bench = Bench(folder=folder, examples=inputs_of(source.contract), data=data, teacher=teacher or source)
        built = to_pass(Step(name="distill", options=tuple(options.items()))).apply(source, bench)
        write_manifest(built.artifact)
        return built

    return applied


def inputs_of(contract: Contract, count: int = 4) -> NDArray[Any]:
    rng = np.random.default_rng(0)
    if contract == tiny_models.CONTRACT:
        return tiny_models.examples()
    if contract.dtype == "int64":
        return rng.integers(0, 50, (count, *contract.shape))
    return rng.standard_normal((count, *contract.shape)).astype(np.float32)


def outputs_of(model: nn.Module, inputs: NDArray[Any]) -> NDArray[Any]:
    with torch.no_grad():
        return model.eval()(torch.from_numpy(inputs)).numpy()


class TestDistill(PassContract):
    """Half of the products of the second convolution, and nearly the same answers."""

    name, source, gives, needs_data, loss = "distill", "eager", "torch", True, 0.5
    options = (("epochs", 8), ("distil", 1.0), ("temperature", 1.0), ("lr", 1e-2))


# --- separable: the nearest pair ------------------------------------------------------------------

LAYERS = {
    "3x3": lambda: nn.Conv2d(6, 16, 3, stride=2, padding=1, dilation=2, padding_mode="reflect"),
    "1x5": lambda: nn.Conv2d(6, 16, (1, 5), padding="same", bias=False),
    "1d": lambda: nn.Conv1d(6, 16, 5, padding=2),
}


def signals(layer: nn.Module) -> torch.Tensor:
    torch.manual_seed(1)
    return torch.randn(2, 6, 9, 9) if isinstance(layer, nn.Conv2d) else torch.randn(2, 6, 9)


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("filters", [1, 2])
def test_a_kernel_that_is_separable_gives_the_same(kind: str, filters: int) -> None:
    """weight[o, i, p] = sum over f of mixing[o, i, f] kernel[i, f, p]."""
    torch.manual_seed(0)
    layer = LAYERS[kind]()
    positions = layer.weight[0, 0].numel()
    mixing, kernel = torch.randn(16, 6, filters), torch.randn(6, filters, positions)
    with torch.no_grad():
        layer.weight.copy_(torch.einsum("oif,ifp->oip", mixing, kernel).reshape(layer.weight.shape))
    pair = separated(layer, filters)
    torch.testing.assert_close(pair(signals(layer)), layer(signals(layer)), rtol=1e-4, atol=1e-4)
    assert (pair[0].groups, pair[0].out_channels, pair[1].weight.shape[2:].numel()) == (6, 6 * filters, 1)


@pytest.mark.parametrize("kind", LAYERS)
def test_the_error_is_the_singular_values_left_out(kind: str) -> None:
    torch.manual_seed(0)
    layer = LAYERS[kind]()
    weight = layer.weight.detach().numpy().reshape(16, 6, -1).astype(float)
    singular = np.linalg.svd(weight.transpose(1, 0, 2), compute_uv=False)
    for filters in (1, 2, 3):
        depthwise, pointwise = separated(layer, filters)
        kernel = depthwise.weight.detach().numpy().reshape(6, filters, -1)
        mixing = pointwise.weight.detach().numpy().reshape(16, 6, filters)
        error = np.square(weight - np.einsum("oif,ifp->oip", mixing, kernel)).sum()
        assert error == pytest.approx(np.square(singular[:, filters:]).sum(), rel=1e-4, abs=1e-6)


@given(inputs=st.integers(1, 12), outputs=st.integers(1, 12), kernel=st.integers(1, 4), filters=st.integers(1, 3))
def test_macs_of_the_pair_are_the_formulas(inputs: int, outputs: int, kernel: int, filters: int) -> None:
    layer = nn.Conv2d(inputs, outputs, kernel, padding=kernel - 1)
    pictures = np.zeros((1, inputs, 8, 8), dtype=np.float32)
    side = 8 + 2 * (kernel - 1) - kernel + 1
    filters = min(filters, outputs, kernel**2)
    whole, pair = module_macs(layer, pictures).total, module_macs(separated(layer, filters), pictures).total
    assert whole == side**2 * kernel**2 * inputs * outputs
    assert pair == side**2 * inputs * filters * (kernel**2 + outputs)
    assert saves(layer, filters) == (pair < whole)


def test_what_is_rewritten_of_a_resnet(nets: Callable[[str], Artifact]) -> None:
    """All its 3 x 3 convolutions; not the first, which reads the picture, nor those of 1 x 1."""
    model, _ = trainable(nets("resnet"))
    names = separable_layers(model)
    assert names == [f"layer{i}.0.conv{j}" for i in (1, 2, 3, 4) for j in (1, 2)]
    assert separable_layers(model, but=frozenset(names[1:])) == names[:1]


# --- depth ----------------------------------------------------------------------------------------


@given(count=st.integers(1, 30), data=st.data())
def test_as_many_blocks_stay_as_are_wanted_and_evenly(count: int, data: st.DataObject) -> None:
    needed = data.draw(st.sets(st.integers(0, count - 1)))
    wanted = data.draw(st.integers(1, count))
    kept = kept_of(count, wanted, needed)
    assert needed <= kept <= set(range(count))
    assert len(kept) == max(wanted, len(needed))
    if needed == {0} and count % wanted == 0:
        gaps = np.diff(sorted(kept))
        assert len(gaps) == 0 or gaps.max() - gaps.min() <= 1


def test_blocks_that_change_the_shape_stay(nets: Callable[[str], Artifact]) -> None:
    resnet = load_subject(SubjectSpec(source=str(nets("resnet18").folder / "resnet18_subject.py"))).model
    pictures = torch.zeros(1, 3, 32, 32)
    assert repeated(resnet) == [[f"layer{i}.0", f"layer{i}.1"] for i in (1, 2, 3, 4)]
    assert skippable(resnet, pictures, 0.5) == [f"layer{i}.1" for i in (1, 2, 3, 4)]
    with torch.no_grad():
        for i in (1, 2, 3, 4):  # a block that adds nothing to what passes by it
            resnet.get_submodule(f"layer{i}.1.bn2").weight.zero_()
    pictures = torch.randn(2, 3, 32, 32)
    before = resnet(pictures)
    for i in (1, 2, 3, 4):
        skip(resnet, f"layer{i}.1")
    assert torch.equal(resnet(pictures), before)


# --- students made, and made again ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("net", "student"),
    [
        ("resnet", "separable=2"),
        ("resnet", "width=0.5"),
        ("encoder", "depth=0.5"),
        ("encoder", "textcnn:8"),
        ("encoder", "transformer:1x32"),
        ("digits", "squeezenet1_1"),
        ("digits", "timm:lcnet_035"),
    ],
)
def test_a_student_is_made_again_from_its_words(
    nets: Callable[[str], Artifact], sources: Sources, tokens: Path, distilled: Apply, net: str, student: str
) -> None:
    source = sources("eager") if net == "digits" else nets(net)
    built = distilled(source, data=tokens, student=student, epochs=0)
    model, shape = trainable(built.artifact)
    inputs = inputs_of(source.contract)
    np.testing.assert_allclose(outputs_of(model, inputs), built.outputs, rtol=1e-4, atol=1e-4)
    assert built.outputs.shape == (len(inputs), 10)
    assert not list(built.artifact.folder.glob("*.pkl"))
    known = {"separable=2": shape.separable, "depth=0.5": shape.skipped, "width=0.5": True}
    assert known.get(student, shape.student == student)


def test_a_rewrite_of_a_rewrite(nets: Callable[[str], Artifact], distilled: Apply) -> None:
    """Blocks go with what was done to them, and all else stays as it was."""
    first = distilled(nets("encoder"), student="depth=0.5", epochs=0)
    folder = first.artifact.folder.with_name("apart")
    folder.mkdir()
    bench = Bench(folder=folder, examples=inputs_of(first.artifact.contract), teacher=first.artifact)
    options = (("rank", 0.3), ("epochs", 0))
    second = to_pass(Step(name="factorise", options=options)).apply(first.artifact, bench)
    model, shape = trainable(second.artifact)
    assert (list(shape.skipped), list(shape.apart)) == (
        ["encoder.layers.1"],
        ["encoder.layers.0.linear1", "encoder.layers.0.linear2", "head"],
    )
    np.testing.assert_allclose(outputs_of(model, bench.examples), second.outputs, atol=1e-5)


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "shufflenet_v2_x0_5", "squeezenet1_1"])
def test_stems_are_opened_for_small_pictures_alone(name: str) -> None:
    from torchvision import models

    model = models.get_model(name, weights=None)
    assert enlarge(model, torch.zeros(1, 3, 224, 224)) == []
    strides = {n: m.stride for n, m in model.named_modules() if hasattr(m, "stride")}
    changed = enlarge(model, torch.zeros(1, 3, 28, 28))
    assert 1 <= len(changed) <= 2
    now = {n: m.stride for n, m in model.named_modules() if hasattr(m, "stride")}
    assert [n for n in strides if now[n] != strides[n]] == changed
    assert all(now[n] in (1, (1, 1)) for n in changed)


def test_a_light_net_takes_the_contracts_channels_and_classes() -> None:
    contract = Contract(shape=(1, 28, 28), labels=("no", "yes", "perhaps"))
    model, note = build_student("shufflenet_v2_x0_5", Subject(model=Path(), contract=contract), contract)
    assert note == "shufflenet_v2_x0_5: without the stride of conv1.0 and maxpool, as pictures are small"
    assert outputs_of(model, np.zeros((2, 1, 28, 28), dtype=np.float32)).shape == (2, 3)
    likely = dataclasses.replace(contract, outputs="probabilities")
    outputs = outputs_of(
        build_student("shufflenet_v2_x0_5", Subject(model=Path(), contract=likely), likely).model,
        np.zeros((2, 1, 28, 28), dtype=np.float32),
    )
    np.testing.assert_allclose(outputs.sum(axis=1), 1, atol=1e-5)


def test_a_student_of_texts_reads_codes_it_never_saw(tokens: Path) -> None:
    contract = Contract(shape=(16,), layout="T", dtype="int64", labels=tuple("0123456789"))
    for words in ("textcnn:8", "transformer:1x8"):
        model = build_student(words, Subject(model=Path(), contract=contract), contract, rows=50).model
        assert outputs_of(model, np.full((2, 16), 10_000)).shape == (2, 10)
    pictures = Contract(shape=(1, 8, 8), labels=("a", "b"))
    with pytest.raises(
        CannotApply, match="textcnn reads texts, whole numbers along T; this model takes float32 in CHW"
    ):
        build_student("textcnn", Subject(model=Path(), contract=pictures), pictures)
    with pytest.raises(CannotApply, match=r"squeezenet1_1 reads pictures, float32 in the order CHW; .* int64 in T"):
        build_student("squeezenet1_1", Subject(model=Path(), contract=contract), contract)


@pytest.mark.parametrize(
    ("student", "words"),
    [
        ("mobilnet_v3_small", "no student 'mobilnet_v3_small' in torchvision; nearest: mobilenet_v3_small"),
        ("timm:lcnet_35", "no student 'lcnet_35' in timm; nearest: lcnet_035"),
        ("transformer:big", "transformer:LAYERSxWIDTH"),
    ],
)
def test_unknown_students_are_named_with_the_nearest(student: str, words: str) -> None:
    contract = Contract(shape=(16,), layout="T", dtype="int64", labels=("a", "b"))
    with pytest.raises(InvalidInput, match=words):
        build_student(student, Subject(model=Path(), contract=contract), contract)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"student": "width=2"}, "width and depth a share between 0 and 1, such as width=0.5"),
        ({"student": "depth"}, "width and depth a share"),
        ({"student": "separable=0"}, "separable takes a whole number of kernels"),
        ({"student": "thin=3"}, "student 'thin=3' is none: give separable, width=0.5, depth=0.5 or a net's name"),
        ({"student": "textcnn", "learns": "head"}, "textcnn knows nothing yet"),
        ({"features": "hints"}, "features must be none or hint or attention, got 'hints'; nearest: hint"),
        ({"temperature": 0.0}, "temperature must be above 0"),
        ({"distil": 1.5}, "distil 0 to 1"),
    ],
)
def test_options_that_cannot_be_followed(options: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        to_pass(Step(name="distill", options=tuple(options.items())))


@pytest.mark.parametrize(
    ("net", "options", "words"),
    [
        ("encoder", {}, "no convolution multiplies less in a depthwise and a pointwise part"),
        ("resnet", {"student": "depth=0.5"}, "no blocks of one kind follow each other"),
        ("encoder", {"student": "resnet18"}, "resnet18 reads pictures"),
    ],
)
def test_models_that_have_nothing_to_lighten(
    nets: Callable[[str], Artifact], distilled: Apply, net: str, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(CannotApply, match=words):
        distilled(nets(net), epochs=0, **options)


# --- what is learned ------------------------------------------------------------------------------

STUDENTS = """
def small():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))

def broken():
    return nn.Linear(3, 4)

_subject = subject

def subject():
    made = _subject()
    return Subject(model=made.model, contract=made.contract, students={"small": small, "broken": broken})
"""


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """The tiny net, whose subject brings students."""
    source = tiny_models.eager_artifact(tmp_path_factory.mktemp("own"))
    path = source.folder / "code" / "tiny_subject.py"
    path.write_text(path.read_text() + STUDENTS, encoding="utf-8")
    return source


def test_the_subjects_own_student(own: Artifact, calibration: Path, distilled: Apply) -> None:
    built = distilled(own, data=calibration, student="small", epochs=15)
    expected = tiny_models.logits(tiny_models.examples())
    assert (built.outputs.argmax(axis=1) == expected.argmax(axis=1)).mean() > 0.8
    with pytest.raises(CannotApply, match=r"the student does not take inputs \(1, 8, 8\)"):
        distilled(own, data=calibration, student="broken")


def test_a_baseline_that_is_a_file_teaches_too(
    sources: Sources, calibration: Path, distilled: Apply, tmp_path: Path
) -> None:
    """The teacher is run by its engine; nothing but its answers is needed."""
    onnx = sources("onnxruntime")
    source = dataclasses.replace(onnx, spec=SubjectSpec(source=str(onnx.path)))
    built = distilled(source, data=calibration, student="timm:lcnet_035", distil=1.0, epochs=0.5)
    assert built.artifact.engine == "torch"
    (cached,) = calibration.glob(f"teacher-{onnx.fingerprint()}.npy")
    assert np.load(cached).shape == (len(tiny_models.data().train), 10)
    with pytest.raises(CannotApply, match="a program cannot be trained"):
        distilled(source, data=calibration, student="separable")
    with pytest.raises(
        CannotApply, match="features are a PyTorch module's; the baseline here is a file for onnxruntime"
    ):
        distilled(source, data=calibration, student="timm:lcnet_035", features="hint")


def test_few_labels_and_a_teacher_beat_few_labels(own: Artifact, tmp_path: Path) -> None:
    """A hundred digits: the same student from the same start, on labels alone and on the teacher's answers."""
    splits = tiny_models.data()
    write_split(splits.train.take(np.arange(100)), tmp_path, "train")
    bench = Bench(folder=tmp_path, examples=tiny_models.examples(), data=tmp_path, teacher=own)
    assert own.spec is not None
    subject, shape = load_subject(own.spec), Shape(spec=own.spec, student="small")
    judged = Examples.of(splits.test, tiny_models.CONTRACT)

    def accuracy(distil: float, seed: int) -> float:
        student = build_student("small", subject, tiny_models.CONTRACT, seed=seed).model
        how = Recovery(epochs=60, lr=5e-3, distil=distil, temperature=4.0, seed=seed, asks_the_teacher=True)
        recover(student, shape, tiny_models.CONTRACT, bench, how)
        return score_of(student, judged)

    gained = [accuracy(0.9, seed) - accuracy(0.0, seed) for seed in range(4)]
    assert np.mean(gained) > 0.01
    assert sum(g > 0 for g in gained) >= 3


def test_layers_look_where_the_teachers_look(sources: Sources, calibration: Path, distilled: Apply) -> None:
    source = sources("eager")
    teacher = trainable(source)[0][:4]
    inputs = tiny_models.examples()
    options = {"feature_weight": 100.0, "epochs": 2, "lr": 1e-2}
    trained = [
        trainable(distilled(source, data=calibration, features=words, **options).artifact)[0][:4]
        for words in ("none", "attention")
    ]
    without, with_them = (_looks_apart(outputs_of(net, inputs), outputs_of(teacher, inputs)) for net in trained)
    assert with_them < 0.8 * without


def _looks_apart(ours: NDArray[Any], theirs: NDArray[Any]) -> float:
    """Mean Euclidean distance of the maps' sums of squares over channels, each of norm 1."""
    looks = [np.square(maps).sum(axis=1).reshape(len(maps), -1) for maps in (ours, theirs)]
    one, other = (look / np.linalg.norm(look, axis=1, keepdims=True) for look in looks)
    return float(np.linalg.norm(one - other, axis=1).mean())


def test_hints_are_learned_through_their_projection(sources: Sources, calibration: Path, distilled: Apply) -> None:
    """The loss holds the distance from the teacher's maps, and falls by more than answers alone could make it."""
    options = {"features": "hint", "feature_weight": 100.0, "epochs": 2, "lr": 1e-2}
    built = distilled(sources("eager"), data=calibration, **options)
    loss = json.loads((built.artifact.folder / "trainable" / "history-0.json").read_text())["loss"]
    teacher = trainable(sources("eager"))[0][:4]
    size = float(np.square(outputs_of(teacher, tiny_models.examples())).mean())
    assert loss[0] > 0.1 * 100 * 0.5 * size
    assert loss[-1] < 0.5 * loss[0]


def test_layers_pair_by_size_or_by_depth(nets: Callable[[str], Artifact]) -> None:
    resnet, _ = trainable(nets("resnet"))
    pairs = layer_pairs(resnet, resnet, torch.zeros(1, 3, 32, 32))
    assert pairs == {name: name for name in ("relu", "layer1", "layer2", "layer3")}
    layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True)

    def encoder(layers: int) -> nn.Module:
        return nn.Sequential(nn.Embedding(50, 32), nn.TransformerEncoder(layer, layers, enable_nested_tensor=False))

    found = layer_pairs(encoder(2), encoder(6), torch.zeros(1, 16, dtype=torch.int64))
    assert found == {"1.layers.0": "1.layers.2", "1.layers.1": "1.layers.5"}
    with pytest.raises(CannotApply, match="neither feature maps of one size nor repeated blocks"):
        layer_pairs(nn.Embedding(50, 4), encoder(2), torch.zeros(1, 16, dtype=torch.int64))


# --- learning a part ------------------------------------------------------------------------------


def test_statistics_anew_are_those_of_the_data() -> None:
    raw = np.random.default_rng(0).normal(3, 2, (128, 1, 8, 8)).astype(np.float32)
    data = Examples(raw, np.zeros(128, dtype=np.int64), Contract(shape=(1, 8, 8)))
    model = nn.Sequential(nn.BatchNorm2d(1), nn.Flatten(), nn.Linear(64, 10)).eval()
    reestimate(model, data)
    assert model[0].running_mean.item() == pytest.approx(raw.mean(), rel=1e-5)
    assert model[0].running_var.item() == pytest.approx(raw.var(ddof=1), rel=1e-5)
    assert not model.training


def test_only_the_head_learns() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5), nn.Flatten(), nn.Linear(144, 10)
    )
    before = {name: value.clone() for name, value in model.state_dict().items()}
    splits = tiny_models.data()
    data = Examples.of(splits.train, tiny_models.CONTRACT)
    with only_head(model, 10):
        history = fit(model, data, Recipe(optimiser="adam", lr=1e-2, epochs=2))
    changed = [name for name, value in model.state_dict().items() if not torch.equal(value, before[name])]
    assert changed == ["5.weight", "5.bias"]
    assert history.epoch_loss[1] < 0.8 * history.epoch_loss[0]
    model.train()
    assert all(layer.training for layer in model.modules())
    assert all(p.requires_grad for p in model.parameters())
    assert head_of(model, 10) == "5"
    with pytest.raises(CannotApply, match="gives 7 outputs: there is no head"):
        head_of(model, 7)


def test_a_rewritten_net_may_learn_its_statistics_alone(
    nets: Callable[[str], Artifact], distilled: Apply, tmp_path: Path
) -> None:
    raw = np.random.default_rng(1).standard_normal((40, 3, 32, 32)).astype(np.float32)
    write_split(Split(raw=raw, labels=np.arange(40, dtype=np.int32) % 10), tmp_path / "data", "train")
    source = nets("resnet")
    model, _ = trainable(distilled(source, data=tmp_path / "data", learns="statistics").artifact)
    untrained, _ = trainable(distilled(source, epochs=0).artifact)
    kept = dict(untrained.state_dict())
    changed = {n.rpartition(".")[2] for n, value in model.state_dict().items() if not torch.equal(value, kept[n])}
    assert changed == {"running_mean", "running_var", "num_batches_tracked"}
