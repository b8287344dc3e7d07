"""Recipes that cannot be followed."""

from __future__ import annotations

import math
from typing import Any

import pytest

from steelyard.errors import InvalidInput
from steelyard.trainer.recipe import Recipe


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, "give epochs, steps or seconds"),
        ({"epochs": 0}, "epochs must be above 0, got 0"),
        ({"epochs": 1, "lr": math.nan}, "lr must be above 0, got nan"),
        ({"epochs": 1, "batch": -4}, "batch must be above 0, got -4"),
        ({"epochs": 1, "optimiser": "sdg"}, "optimiser must be sgd, adam, adamw or rmsprop, got 'sdg'"),
        ({"epochs": 1, "schedule": "cosin"}, "schedule must be cosine, .* got 'cosin'"),
        ({"epochs": 1, "ema": 1.0}, "ema must be at least 0 and below 1, got 1.0"),
        ({"epochs": 1, "weight_decay": -1}, "weight_decay must be 0 or more, got -1"),
        ({"epochs": 1, "swa": 1.0}, "swa must be at least 0 and below 1, got 1.0"),
        ({"epochs": 1, "micro_batch": 0}, "micro_batch must be above 0, got 0"),
        ({"epochs": 1, "state_bits": 16}, "state_bits must be 8 or 32, got 16"),
        ({"epochs": 1, "per": "week"}, "per must be step or epoch, got 'week'"),
        ({"epochs": 1, "switch": 0.5}, "switch goes from adam to sgd: give optimiser adam"),
        ({"epochs": 1, "optimiser": "adam", "switch": "swats", "switch_lr": 0.1}, "give switch, such as 0.5"),
        ({"epochs": 1, "state_bits": 8}, "give optimiser adam or adamw"),
        ({"epochs": 1, "optimiser": "adamw", "state_bits": 8, "fused": True}, "has no fused step"),
        ({"epochs": 1, "ema": 0.9, "swa": 0.5}, "give one of the two"),
        ({"epochs": 1, "swa_lr": 0.1}, "give swa, such as 0.75"),
        ({"epochs": 1, "memory_gb": 2}, "give micro_batch auto"),
        ({"epochs": 1, "optimiser": "adam", "nesterov": True}, "nesterov is a kind of sgd's momentum"),
    ],
)
def test_a_recipe_that_cannot_be_followed_says_which_value(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        Recipe(**settings)
