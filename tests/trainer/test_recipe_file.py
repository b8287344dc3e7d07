"""Recipe files: what they may say, and what a mistake in one is answered with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from small_training import net, some
from steelyard.errors import InvalidInput
from steelyard.trainer.augment import augmented
from steelyard.trainer.loop import fit
from steelyard.trainer.recipe import Recipe
from steelyard.trainer.recipe_file import READY, read_recipe, recipe_yaml


@pytest.mark.parametrize("name", READY)
def test_a_ready_recipe_is_read_and_written_back(name: str, tmp_path: Path) -> None:
    recipe = read_recipe(name)
    (tmp_path / "r.yaml").write_text(recipe_yaml(recipe))
    assert read_recipe(tmp_path / "r.yaml") == recipe


def _trained(name: str, *changes: str) -> int:
    """Steps that a ready recipe trains, of two."""
    recipe = read_recipe(name, ["steps=2", "batch=32", *changes])
    examples, augment = augmented(recipe.augment, some(64), seed=0)
    history = fit(net(norm=True), examples, recipe, augment=augment)
    assert np.isfinite(history.loss).all()
    return len(history)


@pytest.mark.parametrize("name", [name for name in READY if name not in ("low-memory", "fast-gpu")])
def test_a_ready_recipe_trains(name: str) -> None:
    assert _trained(name) == 2


@pytest.mark.slow
@pytest.mark.parametrize(("name", "change"), [("low-memory", "checkpointing=[0]"), ("fast-gpu", "lr=0.1")])
def test_those_that_need_a_compiler_train_too(name: str, change: str) -> None:
    assert _trained(name, change) == 2


def test_the_ready_recipes_are_the_files_that_are_there() -> None:
    folder = Path(__file__).parents[2] / "src/steelyard/trainer/recipes"
    assert sorted(path.stem for path in folder.glob("*.yaml")) == sorted(READY)


def test_the_published_ones_say_what_was_published() -> None:
    classic = read_recipe("classic")
    assert (classic.optimiser, classic.lr, classic.momentum, classic.weight_decay) == ("sgd", 0.1, 0.9, 5e-4)
    held = read_recipe("hold-then-decay")
    assert (held.schedule, held.hold, held.decay) == ("hold-then-decay", 10, 0.1)
    assert read_recipe("augment-strong").augment == {
        "rotation": 20, "shift": 0.2, "shear": 0.2, "zoom": 0.2, "flip": True, "fill": "nearest",
    }  # fmt: skip


def test_changes_take_the_place_of_what_the_file_says(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("lr: 1e-3\nepochs: 3\naugment:\n  flip: true\n")
    recipe = read_recipe(
        path, ["lr=0.5", "augment.rotation=10", "milestones=[0.2, 0.9]", "switch=swats", "optimiser=adam"]
    )
    assert recipe == Recipe(
        lr=0.5,
        epochs=3,
        augment={"flip": True, "rotation": 10},
        milestones=(0.2, 0.9),
        switch="swats",
        optimiser="adam",
    )
    assert read_recipe(path).lr == 0.001


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("lr: 0.1\nepochs: 3\nmomentumm: 0.9", "r.yaml, line 3: no such word 'momentumm'; nearest: momentum"),
        ("lr: fast\nepochs: 3", "r.yaml, line 1: lr must be a number; got 'fast'"),
        ("epochs: 3\nlr: -1", "r.yaml, line 2: lr must be above 0, got -1"),
        ("epochs: 3\nsteps: 2.5", "r.yaml, line 2: steps must be a whole number; got 2.5"),
        ("epochs: true", "r.yaml, line 1: epochs must be no yes or no; got True"),
        ("epochs: 3\nnesterov: sometimes", "r.yaml, line 2: nesterov must be true or false; got 'sometimes'"),
        ("epochs: 3\noptimiser: sdg", "r.yaml, line 2: optimiser must be 'sgd', 'adam', .* got 'sdg'"),
        ("epochs: 3\nepochs: 4", "r.yaml, line 2: 'epochs' stands here again, first in line 1: keep one"),
        ("epochs: [", "r.yaml, line 1: no YAML"),
        ("- epochs", "r.yaml: a recipe is lines such as `lr: 0.1`"),
        ("lr: 0.1", "r.yaml: the recipe does not say when to stop"),
        ("epochs: 1\naugment: flip", "r.yaml, line 2: augment must be words with values"),
    ],
)
def test_a_mistake_is_answered_with_its_line_and_the_cure(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(text)
    with pytest.raises(InvalidInput, match=words):
        read_recipe(tmp_path / "r.yaml")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("lr", "changes of the recipe are written lr=0.05"),
        ("=3", "changes of the recipe are written lr=0.05"),
        ("lr=[", "cannot read the value in 'lr=\\['"),
        ("learning=3", "learning=3: no such word 'learning'"),
        ("lr=0", "lr=0: lr must be above 0"),
    ],
)
def test_a_mistaken_change_is_named(change: str, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        read_recipe("classic", [change])


def test_an_unknown_recipe_is_answered_with_the_nearest() -> None:
    with pytest.raises(InvalidInput, match="did you mean hold-then-decay"):
        read_recipe("hold-and-decay")


@given(st.text(max_size=60))
def test_any_text_is_a_recipe_or_one_line(text: str) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "r.yaml"
        path.write_text(text, encoding="utf-8", errors="replace")
        with pytest.raises(InvalidInput) as error:  # short texts say no end of the training, or nothing that is known
            read_recipe(path)
        assert "\n" not in str(error.value)
