"""Checkpoints: all that a training needs to go on bit for bit, written whole or not at all, the last two kept.

A file is what `torch.save` writes, read back by the restricted unpickler, and a digest at its end that tells a torn one.
"""

from __future__ import annotations

import hashlib
import io
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any, cast

import torch

from steelyard.errors import InvalidInput
from steelyard.subject.safe import load_tensors

__all__ = ["Checkpoints", "check_same", "read_checkpoint", "write_checkpoint"]

_KEPT = 2
_DIGEST = 32  # bytes


class Checkpoints:
    """A folder of checkpoints of one training, written every so many steps or seconds; ``of`` says in words of which."""

    def __init__(
        self,
        folder: Path,
        *,
        every_steps: int | None = None,
        every_s: float | None = 300.0,
        of: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.folder, self.of = folder, of
        self._steps, self._seconds, self._clock = every_steps, every_s, clock
        self._last = clock()

    def due(self, step: int) -> bool:
        """Whether one is to be written after so many steps."""
        if self._steps is not None:
            return step % self._steps == 0
        return self._seconds is not None and self._clock() - self._last >= self._seconds

    def save(self, step: int, state: Mapping[str, Any]) -> str:
        """Write one and let go of all but the last two; words where it could not be written: the ones before stay."""
        self._last = self._clock()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_checkpoint(self.folder / f"step-{step:09d}.ckpt", state)
        except OSError as error:
            return (
                f"the checkpoint at step {step} could not be written ({error.strerror or error}): the one before stays"
            )
        for old in self._files()[:-_KEPT]:
            old.unlink(missing_ok=True)
        return ""

    def latest(self) -> tuple[dict[str, Any] | None, list[str]]:
        """The newest that is whole, if any, and words for each that is not."""
        said: list[str] = []
        for path in reversed(self._files()):
            try:
                return read_checkpoint(path), said
            except InvalidInput as error:
                said.append(f"{error}: going on from the one before")
        return None, said

    def clear(self) -> None:
        """Remove all."""
        for path in (*self._files(), *self.folder.glob("*.part")):
            path.unlink(missing_ok=True)

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob("step-*.ckpt"))


def write_checkpoint(path: Path, state: Mapping[str, Any]) -> None:
    """Write a state whole or not at all. Raises `OSError` where it cannot be; what stood there before is still there."""
    part = path.with_suffix(".part")
    try:
        with part.open("wb") as raw:
            digested = _Digested(raw)
            torch.save(dict(state), cast("IO[bytes]", digested))
            digested.close()
            raw.flush()
            os.fsync(raw.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # the new name is on disk too
    finally:
        os.close(folder)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """A state. Raises `InvalidInput` for a torn or damaged file."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InvalidInput(f"cannot read {path}: {error.strerror}") from None
    body = memoryview(content)[:-_DIGEST]
    if len(content) <= _DIGEST or hashlib.blake2b(body, digest_size=_DIGEST).digest() != content[-_DIGEST:]:
        raise InvalidInput(f"checkpoint {path.name} is damaged or cut off")
    state = load_tensors(io.BytesIO(body))
    if not isinstance(state, dict):
        raise InvalidInput(f"{path} is no checkpoint of a training")
    return state


class _Digested:
    """A file that takes all, digests it, and says at its end whether it could be written: PyTorch's writer hides the reason."""

    def __init__(self, raw: io.BufferedWriter) -> None:
        self._raw, self._hash = raw, hashlib.blake2b(digest_size=_DIGEST)
        self._error: OSError | None = None

    def write(self, content: bytes) -> int:
        if self._error is None:
            self._hash.update(content)
            try:
                self._raw.write(content)
            except OSError as error:
                self._error = error
        return len(content)

    def flush(self) -> None:
        """Nothing is held here."""

    def close(self) -> None:
        """Write the digest; raises what a write met."""
        if self._error is not None:
            raise self._error
        self._raw.write(self._hash.digest())


def check_same(kept: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raise `InvalidInput`, naming the first difference, unless a state is of this recipe, net and data."""
    cure = "give the same again, --resume never, or another --out"
    if kept["of"] != now["of"]:
        raise InvalidInput(f"the checkpoint is of {kept['of'] or 'nothing named'}, this is {now['of']}: {cure}")
    for name, value in now["recipe"].items():
        if kept["recipe"].get(name) != value:
            raise InvalidInput(
                f"the checkpoint's recipe has {name} {kept['recipe'].get(name)}, this one {value}: {cure}"
            )
    for name, tensor in now["model"].items():
        before = kept["model"].get(name)
        if before is None or before.shape != tensor.shape:
            had = "none" if before is None else str(tuple(before.shape))
            raise InvalidInput(
                f"the checkpoint is of another net: {name} is {tuple(tensor.shape)} here, {had} there: {cure}"
            )
    extra = next((name for name in kept["model"] if name not in now["model"]), None)
    if extra is not None:
        raise InvalidInput(f"the checkpoint is of another net: it has {extra}, this one has not: {cure}")
    if kept["data"] != now["data"]:
        raise InvalidInput(
            f"the checkpoint is of {kept['data'][0]} other training examples, here are {now['data'][0]}: {cure}"
        )
