"""A rank that goes while the others wait for it."""

from __future__ import annotations

import os
import signal

from steelyard.trainer.parallel import Ranks


def killed() -> None:
    """Rank 1 is killed."""
    ranks = Ranks.here()
    if ranks.rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    ranks.totals([1.0])
