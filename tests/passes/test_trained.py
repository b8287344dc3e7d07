"""Passes that change a model's shape and train it: what they remove, what they must not touch, and who trains it back."""

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
from steelyard.counts.macs import module_macs
from steelyard.errors import CannotApply, InvalidInput
from steelyard.passes import PASSES, to_pass
from steelyard.passes.bench import Bench, Built
from steelyard.passes.build import TRAINING, Builder
from steelyard.passes.lowrank import decomposed, matrix_of, rank_for, saves
from steelyard.passes.recover import masks_held
from steelyard.passes.sparsify import largest, two_of_four
from steelyard.passes.trainable import tied, trainable
from steelyard.records import Plan, Step
from steelyard.subject.artifact import Artifact, read_artifact, write_manifest
from steelyard.subject.engines import load_runner

Sources = Callable[[str], Artifact]
Apply = Callable[..., Built]


@pytest.fixture(autouse=True)
def _one_core() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def apply(tmp_path: Path) -> Apply:
    """Apply a technique to an artifact; the new one has its manifest, so that another may follow."""
    count = 0

    def applied(name: str, source: Artifact, *, data: Path | None = None, bench: Any = None, **options: Any) -> Built:
        nonlocal count
        count += 1
        folder = tmp_path / f"{count}-{name}"
        folder.mkdir()
        step = Step(name=name, options=tuple(options.items()))
        made = {"folder": folder, "examples": inputs_of(source), "data": data, **(bench or {})}
        built = to_pass(step).apply(source, Bench(**made))
        write_manifest(built.artifact)
        return built

    return applied


def inputs_of(source: Artifact, count: int = 4) -> NDArray[Any]:
    rng = np.random.default_rng(0)
    contract = source.contract
    if contract == tiny_models.CONTRACT:
        return tiny_models.examples()
    if contract.dtype == "int64":
        return rng.integers(0, 50, (count, *contract.shape))
    return rng.standard_normal((count, *contract.shape)).astype(np.float32)


def outputs_of(model: nn.Module, inputs: NDArray[Any]) -> NDArray[Any]:
    with torch.no_grad():
        return model.eval()(torch.from_numpy(inputs)).numpy()


def changed(source: Artifact, folder: Path, change: Callable[[nn.Module], None]) -> Artifact:
    """The same net with other weights."""
    model, _ = trainable(source)
    with torch.no_grad():
        change(model)
    folder.mkdir()
    torch.save(model.state_dict(), folder / "weights.pt")
    return dataclasses.replace(source, folder=folder)


# --- prune: what is left --------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"scope": "global"}, {"importance": "l1"}, {"importance": "random"}])
def test_macs_after_pruning_are_the_formulas(sources: Sources, apply: Apply, options: dict[str, Any]) -> None:
    built = apply("prune", sources("eager"), macs=0.6, round_to=1, epochs=0, **options)
    model, _ = trainable(built.artifact)
    first, second = model[0].out_channels, model[2].out_channels
    formula = 8 * 8 * first * 9 + 4 * 4 * second * first * 9 + 16 * second * 10
    assert formula <= 0.6 * tiny_models.MACS
    assert module_macs(load_runner(built.artifact).module, tiny_models.examples(1)).total == formula  # type: ignore[attr-defined]
    assert (model[2].in_channels, model[5].in_features, model[5].out_features) == (first, 16 * second, 10)


@pytest.mark.parametrize("importance", ["l1", "l2", "taylor"])
def test_channels_that_are_nought_go_first_and_nothing_changes(
    sources: Sources, calibration: Path, apply: Apply, tmp_path: Path, importance: str
) -> None:
    dead = {0: [1, 2], 2: [0, 3, 4, 7]}

    def kill(model: nn.Module) -> None:
        for layer, channels in dead.items():
            model[layer].weight[channels] = 0
            model[layer].bias[channels] = 0
        model[2].weight[:, dead[0]] = 0
        model[5].weight.view(10, 8, 16)[:, dead[2]] = 0

    source = changed(sources("eager"), tmp_path / "dead", kill)
    built = apply("prune", source, data=calibration, ratio=0.5, round_to=1, epochs=0, importance=importance)
    model, _ = trainable(built.artifact)
    original, _ = trainable(source)
    assert (model[0].out_channels, model[2].out_channels) == (2, 4)
    assert torch.equal(model[0].weight, original[0].weight[[0, 3]])
    np.testing.assert_allclose(built.outputs, outputs_of(original, tiny_models.examples()), atol=1e-5)


def test_a_transformers_dead_width_goes_and_its_heads_stay_whole(
    nets: Callable[[str], Artifact], apply: Apply, tmp_path: Path
) -> None:
    dead = list(range(1, 64, 2))

    def kill(model: nn.Module) -> None:
        for layer in model.encoder.layers:
            layer.linear1.weight[dead] = 0
            layer.linear1.bias[dead] = 0
            layer.linear2.weight[:, dead] = 0

    source = changed(nets("encoder"), tmp_path / "dead", kill)
    built = apply("prune", source, ratio=0.5, epochs=0)
    model, _ = trainable(built.artifact)
    original, _ = trainable(source)
    for layer, before in zip(model.encoder.layers, original.encoder.layers, strict=True):
        assert (layer.linear1.out_features, layer.linear2.in_features) == (32, 32)
        assert torch.equal(layer.self_attn.in_proj_weight, before.self_attn.in_proj_weight)
    np.testing.assert_allclose(built.outputs, outputs_of(original, inputs_of(source)), atol=1e-5)


def test_attention_of_the_users_own_keeps_its_heads(nets: Callable[[str], Artifact], apply: Apply) -> None:
    model, _ = trainable(apply("prune", nets("own_attention"), macs=0.75, epochs=0).artifact)
    assert model.block.attention.qkv.weight.shape == (96, 32)
    assert model.block.mlp[0].out_features < 64


def test_batch_scale_prunes_the_channels_of_the_smallest_scales(
    nets: Callable[[str], Artifact], apply: Apply, tmp_path: Path
) -> None:
    """Network slimming: in each block's inner layer, the half with the smallest scales goes."""

    def scale(model: nn.Module) -> None:
        for name, layer in model.named_modules():
            if name.endswith(".bn1"):
                layer.weight.copy_(torch.arange(1.0, 1.0 + layer.num_features).flip(0))

    built = apply(
        "prune", changed(nets("resnet"), tmp_path / "scaled", scale), ratio=0.5, epochs=0, importance="bn-scale"
    )
    model, _ = trainable(built.artifact)
    for block in (model.layer1[0], model.layer4[0]):
        assert block.bn1.weight.tolist() == [
            float(n) for n in range(2 * len(block.bn1.weight), len(block.bn1.weight), -1)
        ]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet18", "mobilenet"])
def test_the_nets_of_torchvision_are_halved_and_rebuilt(
    nets: Callable[[str], Artifact], apply: Apply, name: str
) -> None:
    source = nets(name)
    built = apply("prune", source, macs=0.5, epochs=0)
    model, _ = trainable(built.artifact)
    before = module_macs(trainable(source)[0], inputs_of(source, 1)).total
    assert 0.4 * before < module_macs(model, inputs_of(source, 1)).total <= 0.5 * before
    np.testing.assert_allclose(outputs_of(model, inputs_of(source)), built.outputs, rtol=1e-4, atol=1e-4)
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d) and layer.out_channels > 8:
            assert layer.out_channels % 8 == 0
            assert layer.groups in (1, layer.in_channels)


def test_a_module_used_twice_stays_one(nets: Callable[[str], Artifact], apply: Apply) -> None:
    built = apply("prune", nets("shared_module"), macs=0.6, round_to=1, epochs=0)
    model, _ = trainable(built.artifact)
    assert model.first.out_channels == model.again.in_channels == model.again.out_channels == model.wide.in_channels
    np.testing.assert_allclose(outputs_of(model, inputs_of(nets("shared_module"))), built.outputs, atol=1e-5)


@pytest.mark.parametrize("name", ["prune", "sparsify", "factorise"])
def test_tied_weights_stay_tied(nets: Callable[[str], Artifact], apply: Apply, name: str) -> None:
    options = {"prune": {"macs": 0.7, "round_to": 1}, "sparsify": {}, "factorise": {"rank": 0.3}}[name]
    built = apply(name, nets("tied"), epochs=0, **options)
    model, _ = trainable(built.artifact)
    assert model.one.weight is model.two.weight
    assert model.one.weight.shape == (32, 32)
    assert set(tied(model)) == {"one", "two"}
    np.testing.assert_allclose(outputs_of(model, inputs_of(nets("tied"))), built.outputs, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("writes", {}, r"writes into parts of a tensor in place \(CopySlices\).*torch\.cat or torch\.where"),
        ("spelled_out", {}, r"does not follow its layers' widths when pruned: .*shapes? "),
        (
            "encoder",
            {"macs": 0.2},
            r"down to .* MACs and not to .*: give a larger share than macs=0\.2, or a smaller round_to",
        ),
    ],
)
def test_models_that_pruning_would_break_are_refused(
    nets: Callable[[str], Artifact], apply: Apply, name: str, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(CannotApply, match=words):
        apply("prune", nets(name), epochs=0, **options)


# --- sparsify: which weights ----------------------------------------------------------------------


@given(seed=st.integers(0, 1000), share=st.floats(0.01, 0.99))
def test_masks_keep_exactly_the_largest_of_all_layers(seed: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    layers = [rng.standard_normal((4, 6)), rng.standard_normal((3, 2, 3, 3)), 10 * rng.standard_normal((2, 5))]
    masks = [m.numpy() for m in largest([torch.from_numpy(w) for w in layers], share)]
    magnitudes = np.sort(np.concatenate([np.abs(w).ravel() for w in layers]))[::-1]
    count = round(share * len(magnitudes))
    assert sum(int(m.sum()) for m in masks) == count
    kept = [np.abs(w)[m] for w, m in zip(layers, masks, strict=True)]
    np.testing.assert_array_equal(np.sort(np.concatenate(kept))[::-1], magnitudes[:count])


@given(seed=st.integers(0, 1000), kernel=st.sampled_from([(), (1, 1), (3, 3)]))
def test_two_of_each_four_neighbouring_inputs_stay(seed: int, kernel: tuple[int, ...]) -> None:
    weight = np.random.default_rng(seed).standard_normal((3, 8, *kernel))
    mask = two_of_four(torch.from_numpy(weight)).numpy()
    for index in np.ndindex(3, 2, *kernel):
        where = (index[0], slice(4 * index[1], 4 * index[1] + 4), *index[2:])
        assert set(np.argsort(-np.abs(weight[where]))[:2]) == set(np.flatnonzero(mask[where]))


def test_zeros_stay_zero_through_recovery_and_through_the_next_technique(
    sources: Sources, calibration: Path, apply: Apply
) -> None:
    source = sources("eager")
    built = apply("sparsify", source, data=calibration, ratio=0.6, epochs=2, bench={"teacher": source})
    model, shape = trainable(built.artifact)
    original, _ = trainable(source)
    masks = largest([original[i].weight for i in (0, 2, 5)], 0.4)
    for layer, mask in zip((0, 2, 5), masks, strict=True):
        assert torch.equal(model[layer].weight != 0, mask)
        assert not torch.equal(model[layer].weight[mask], original[layer].weight[mask]), "the others were trained"
    assert shape.sparse
    again = apply("prune", built.artifact, data=calibration, macs=0.8, round_to=1, epochs=1, lr=0.01)
    pruned, shape = trainable(again.artifact)
    kept = sum(int((model[i].weight != 0).sum()) for i in (0, 2, 5))
    assert sum(int((pruned[i].weight != 0).sum()) for i in (0, 2, 5)) < kept
    assert shape.sparse
    with pytest.raises(CannotApply, match="would fill the zeros that sparsify made: factorise first"):
        apply("factorise", built.artifact, data=calibration)


def test_masks_hold_on_shared_weights(nets: Callable[[str], Artifact]) -> None:
    model, _ = trainable(nets("tied"))
    with torch.no_grad():
        model.one.weight[:16] = 0
    with masks_held(model, sparse=True):
        optimiser = torch.optim.SGD(model.parameters(), 0.1, weight_decay=0.1)
        for _ in range(2):
            optimiser.zero_grad()
            model(torch.from_numpy(inputs_of(nets("tied")))).square().mean().backward()
            optimiser.step()
    assert model.one.weight is model.two.weight
    assert (model.one.weight[:16] == 0).all()
    assert (model.one.weight[16:] != 0).all()


def test_two_of_four_leaves_layers_that_do_not_fit(sources: Sources, apply: Apply) -> None:
    model, _ = trainable(apply("sparsify", sources("eager"), pattern="2:4", epochs=0).artifact)
    assert [int((model[i].weight != 0).sum()) for i in (0, 2)] == [36, 8 * 4 * 9 // 2]
    assert (model[5].weight.view(10, 32, 4) != 0).sum(dim=2).max() == 2


# --- factorise: the nearest product ---------------------------------------------------------------

LAYERS = {
    "linear": lambda: nn.Linear(20, 30),
    "without bias": lambda: nn.Linear(20, 30, bias=False),
    "1x1": lambda: nn.Conv2d(12, 16, 1),
    "3x3": lambda: nn.Conv2d(6, 16, 3, stride=2, padding=1, dilation=2, padding_mode="reflect"),
    "1x5": lambda: nn.Conv2d(6, 16, (1, 5), padding="same"),
}


@pytest.mark.parametrize("kind", LAYERS)
def test_the_error_is_the_singular_values_left_out(kind: str) -> None:
    torch.manual_seed(0)
    layer = LAYERS[kind]()
    singular = np.linalg.svd(matrix_of(layer).numpy().astype(float), compute_uv=False)
    inputs = torch.randn(2, 20) if isinstance(layer, nn.Linear) else torch.randn(2, layer.in_channels, 9, 9)
    for rank in (1, 4, len(singular)):
        first, second = decomposed(layer, rank)
        product = matrix_of(second) @ matrix_of(first)
        error = (matrix_of(layer) - product).double().square().sum().item()
        assert error == pytest.approx(np.square(singular[rank:]).sum(), abs=1e-5)
    torch.testing.assert_close(second(first(inputs)), layer(inputs), rtol=1e-4, atol=1e-4)


@given(values=st.lists(st.floats(0, 100), min_size=1, max_size=20), energy=st.floats(0.01, 1))
def test_the_rank_is_the_smallest_that_holds_the_energy(values: list[float], energy: float) -> None:
    squares = np.square(np.sort(values)[::-1])
    rank = rank_for(torch.tensor(np.sort(values)[::-1].copy()), energy)
    assert squares[:rank].sum() >= (energy - 1e-9) * squares.sum()
    assert rank == 1 or squares[: rank - 1].sum() < energy * squares.sum()


@pytest.mark.parametrize("kind", LAYERS)
def test_it_saves_where_two_layers_multiply_less(kind: str) -> None:
    layer = LAYERS[kind]()
    inputs = np.zeros((1, 20) if isinstance(layer, nn.Linear) else (1, layer.in_channels, 9, 9), dtype=np.float32)
    whole = module_macs(layer, inputs).total
    for rank in range(1, min(matrix_of(layer).shape) + 1):
        assert saves(layer, rank) == (module_macs(decomposed(layer, rank), inputs).total < whole)


def test_a_layer_of_low_rank_is_found_and_nothing_changes(
    nets: Callable[[str], Artifact], apply: Apply, tmp_path: Path
) -> None:
    """PyTorch's fused encoder layer would reach for linear1's one weight; its attention is left alone."""

    def flatten(model: nn.Module) -> None:
        for layer in model.encoder.layers:
            layer.linear1.weight.copy_(torch.randn(64, 5) @ torch.randn(5, 32) / 5)

    source = changed(nets("encoder"), tmp_path / "low", flatten)
    built = apply("factorise", source, energy=1 - 1e-9, epochs=0)
    model, shape = trainable(built.artifact)
    assert dict(shape.apart) == {"encoder.layers.0.linear1": 5, "encoder.layers.1.linear1": 5}
    original, _ = trainable(source)
    np.testing.assert_allclose(built.outputs, outputs_of(original, inputs_of(source)), atol=1e-4)
    np.testing.assert_allclose(outputs_of(model, inputs_of(source)), built.outputs, atol=1e-5)


def test_a_model_of_full_rank_is_refused(nets: Callable[[str], Artifact], apply: Apply) -> None:
    with pytest.raises(CannotApply, match="no layer is of low rank: keeping 100% of the energy"):
        apply("factorise", nets("spelled_out"), energy=1.0, epochs=0)


# --- chains and rebuilding ------------------------------------------------------------------------


def test_shapes_add_up_along_a_chain(nets: Callable[[str], Artifact], apply: Apply) -> None:
    source = nets("encoder")
    thin = apply("factorise", source, rank=0.4, epochs=0)
    pruned = apply("prune", thin.artifact, ratio=0.25, epochs=0)
    sparse = apply("sparsify", pruned.artifact, epochs=0)
    model, shape = trainable(read_artifact(sparse.artifact.folder))
    np.testing.assert_allclose(outputs_of(model, inputs_of(source)), sparse.outputs, atol=1e-5)
    assert shape.sparse
    assert shape.apart
    assert not list(sparse.artifact.folder.glob("*.pkl"))
    counts = [
        module_macs(trainable(a)[0], inputs_of(source, 1)).total for a in (source, thin.artifact, pruned.artifact)
    ]
    assert counts == sorted(counts, reverse=True)
    assert len(set(counts)) == 3


def test_a_program_without_its_code_is_refused(sources: Sources, apply: Apply, calibration: Path) -> None:
    with pytest.raises(CannotApply, match=r"a program cannot be trained: it starts from file\.py:function"):
        apply("prune", sources("torch"), data=calibration)


def test_what_another_engine_makes_of_it_is_the_same_net(sources: Sources, calibration: Path, tmp_path: Path) -> None:
    """prune > onnx through the builder: the chain goes on from the pruned program, which is trained once."""
    source = sources("eager")
    prune = Step(name="prune", options=(("macs", 0.7), ("round_to", 1), ("epochs", 1)))
    inputs = str(tiny_models.write_inputs(tmp_path / "inputs.npy"))
    words = (str(source.folder), str(tmp_path / "artifacts"))
    first = Path(Builder().build(*words, Plan(steps=(prune,)), inputs, str(calibration)))
    trained = (first / "trainable" / "history-0.json").stat().st_mtime_ns
    folder = Path(Builder().build(*words, Plan(steps=(prune, Step(name="onnx"))), inputs, str(calibration)))
    assert (first / "trainable" / "history-0.json").stat().st_mtime_ns == trained
    one, other = (load_runner(read_artifact(f))(tiny_models.examples()) for f in (first, folder))
    np.testing.assert_allclose(other, one, atol=1e-3)
    assert not (folder / "trainable").exists()


# --- recovery -------------------------------------------------------------------------------------


def test_recovery_brings_back_what_the_baseline_answers(sources: Sources, calibration: Path, apply: Apply) -> None:
    source, options = sources("eager"), {"macs": 0.5, "round_to": 1}
    expected = tiny_models.logits(tiny_models.examples())
    bench = {"teacher": source}
    errors = [
        np.square(built.outputs - expected).mean()
        for built in (
            apply("prune", source, epochs=0, **options),
            apply("prune", source, data=calibration, bench=bench, epochs=4, lr=3e-3, distil=1.0, **options),
        )
    ]
    assert errors[1] < 0.3 * errors[0]


def test_the_teachers_answers_are_worked_out_once(sources: Sources, tmp_path: Path) -> None:
    data = tiny_models.write_data(tmp_path / "data", ("train",))
    bench = Bench(folder=tmp_path, examples=tiny_models.examples(), data=data, teacher=sources("onnxruntime"))
    first = bench.teacher_outputs(tiny_models.CONTRACT)
    assert first is not None
    train = tiny_models.data().train
    np.testing.assert_allclose(first, tiny_models.logits(train.inputs(tiny_models.CONTRACT)), atol=1e-3)
    (path,) = data.glob("teacher-*")
    written = path.stat().st_mtime_ns
    bench.teacher_outputs(tiny_models.CONTRACT)
    assert path.stat().st_mtime_ns == written
    assert dataclasses.replace(bench, teacher=None).teacher_outputs(tiny_models.CONTRACT) is None


def test_each_step_of_an_iterative_pruning_is_recovered(sources: Sources, calibration: Path, apply: Apply) -> None:
    built = apply("prune", sources("eager"), data=calibration, macs=0.5, round_to=1, steps=3, epochs=3)
    folder = built.artifact.folder / "trainable"
    histories = [json.loads(path.read_text()) for path in sorted(folder.glob("history-*.json"))]
    assert [len(h["loss"]) for h in histories] == [17] * 3
    assert {h["ended"] for h in histories} == {"done"}


def test_recovery_ends_with_its_time(sources: Sources, calibration: Path, apply: Apply) -> None:
    source = sources("eager")
    built = apply("sparsify", source, data=calibration, epochs=10_000, bench={"seconds": 0.5})
    assert json.loads((built.artifact.folder / "trainable" / "history-0.json").read_text())["ended"] == "time"
    with pytest.raises(CannotApply, match="no time is left for recovery"):
        apply("sparsify", source, data=calibration, bench={"seconds": -1.0})


def test_a_recovery_that_diverges_is_refused_with_its_place(sources: Sources, calibration: Path, apply: Apply) -> None:
    with pytest.raises(CannotApply, match=r"recovery diverged: the loss became (nan|inf) at step .* a lower rate"):
        apply("sparsify", sources("eager"), data=calibration, lr=1e30, epochs=1)


def _tiny(folder: Path, **given: str) -> Artifact:
    """The tiny net whose subject says how it is trained."""
    source = tiny_models.eager_artifact(folder)
    path = folder / "code" / "tiny_subject.py"
    words = ", ".join(f"{name}={value}" for name, value in given.items())
    code = path.read_text().replace("def subject():", "def _subject():")
    code += f"\ndef subject():\n    made = _subject()\n    return Subject(model=made.model, contract=made.contract, {words})\n"
    path.write_text(code)
    return source


def test_the_subjects_own_loss_is_used(calibration: Path, apply: Apply, tmp_path: Path) -> None:
    """A loss that wants every output at 7."""
    source = _tiny(tmp_path / "own", loss="lambda outputs, labels: (outputs - 7).square().mean()")
    built = apply("sparsify", source, data=calibration, ratio=0.1, epochs=15, lr=0.03)
    assert np.abs(built.outputs - 7).mean() < 2


@pytest.mark.parametrize(
    ("loss", "error", "words"),
    [
        ("lambda outputs, labels: 1 / 0", InvalidInput, "the subject's loss failed: ZeroDivisionError"),
        ("lambda outputs, labels: outputs[:, 0]", InvalidInput, r"the loss gave \(64,\): one number"),
    ],
)
def test_a_loss_that_fails_says_so(
    calibration: Path, apply: Apply, tmp_path: Path, loss: str, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        apply("sparsify", _tiny(tmp_path / "own", loss=loss), data=calibration)


LOOP = (
    "lambda module, splits: (torch.nn.init.ones_(module[5].bias), "
    "pathlib.Path({path!r}).write_text(repr([len(s) for _, s in splits.items()])))"
)


def test_the_subjects_own_loop_is_used_and_sees_no_test(apply: Apply, tmp_path: Path) -> None:
    data = tiny_models.write_data(tmp_path / "data", ("train", "validation", "test", "calibration"))
    seen = tmp_path / "seen"
    source = _tiny(tmp_path / "own", recover=LOOP.format(path=str(seen)))
    built = apply("sparsify", source, data=data, ratio=0.3)
    model, _ = trainable(built.artifact)
    assert (model[5].bias == 1).all()
    assert (model[5].weight == 0).any()
    splits = tiny_models.data()
    assert json.loads(seen.read_text()) == [len(splits.train), len(splits.validation), len(splits.validation)]
    with pytest.raises(InvalidInput, match="the subject's recover failed: ValueError: no such thing"):
        apply(
            "sparsify",
            _tiny(tmp_path / "bad", recover="lambda m, s: (_ for _ in ()).throw(ValueError('no such thing'))"),
            data=data,
        )
    with pytest.raises(CannotApply, match="the subject's recover left weights that are not finite"):
        apply("sparsify", _tiny(tmp_path / "nan", recover="lambda m, s: m[5].bias.data.fill_(float('nan'))"), data=data)


# --- words ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("prune", {"macs": 1.5}, "prune: macs and ratio must be above 0 and below 1, got 1.5 and None"),
        ("prune", {"importance": "l3"}, "importance must be one of l1, l2, taylor, bn-scale, random .* got 'l3'"),
        ("prune", {"steps": 0}, "round_to and steps must be 1 or more"),
        ("sparsify", {"ratio": 0}, "sparsify: pattern must be global or 2:4, ratio above 0"),
        ("sparsify", {"lr": 0}, "sparsify: epochs must be 0 or more, lr above 0"),
        ("factorise", {"energy": 0}, "factorise: energy and rank must be above 0 and at most 1, got 0 and None"),
        ("factorise", {"distil": 2}, "factorise: epochs must be 0 or more, lr above 0 and distil 0 to 1"),
    ],
)
def test_options_that_cannot_be_followed_are_bad_input(name: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        to_pass(Step(name=name, options=tuple(options.items())))


@dataclasses.dataclass(frozen=True, slots=True)
class Looks:
    """Notes what it is given."""

    takes = frozenset({"eager"})
    given: Any = None

    def apply(self, source: Artifact, bench: Bench) -> Built:
        SEEN.append(bench)
        raise CannotApply("seen enough")


SEEN: list[Bench] = []


def test_the_builder_gives_the_baseline_as_teacher_and_a_part_of_the_time(
    sources: Sources, calibration: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from steelyard import passes

    monkeypatch.setattr(passes, "PASSES", {**PASSES, "looks": Looks})
    inputs = str(tiny_models.write_inputs(tmp_path / "inputs.npy"))
    with pytest.raises(CannotApply, match="seen enough"):
        Builder().build(
            str(sources("eager").folder),
            str(tmp_path),
            Plan(steps=(Step(name="looks"),)),
            inputs,
            str(calibration),
            100.0,
        )
    (bench,) = SEEN
    assert bench.teacher is not None
    assert bench.teacher.fingerprint() == sources("eager").fingerprint()
    assert bench.seconds == pytest.approx(TRAINING * 100, abs=5)
    assert len(bench.training()) == len(tiny_models.data().train)
    assert bench.validation() is None
