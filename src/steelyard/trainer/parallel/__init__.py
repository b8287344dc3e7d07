"""Processes that train one model together: the same batches, the same steps and the same weights as one process alone.

Every batch is the one that a single process would take; each rank computes its part of it. Data parallel ranks hold the whole model
and add up gradients; sharded ones hold a part of every weight; stages hold some layers each.
"""

from steelyard.trainer.parallel.norms import idle
from steelyard.trainer.parallel.ranks import Ranks, join, leave
from steelyard.trainer.parallel.spread import Spread, check_spread, holding, prepared, shared, whole

__all__ = ["Ranks", "Spread", "check_spread", "holding", "idle", "join", "leave", "prepared", "shared", "whole"]
