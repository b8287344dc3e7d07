"""Words of a call into what the jobs take: times, shares, folders, regions, what a model file does not say."""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Iterable
from pathlib import Path

from steelyard.errors import InvalidInput
from steelyard.records import Scalar, SubjectSpec

__all__ = ["known_region", "parse_budget", "parse_share", "refuse_unknown", "run_folder", "slug", "spec_of"]


def parse_budget(words: str | float) -> float:
    """Seconds in ``90``, ``90s``, ``10m``, ``1h`` or ``1h30m``.

    >>> parse_budget("1h30m")
    5400.0
    """
    if isinstance(words, int | float):
        seconds = float(words)
    else:
        match = re.fullmatch(r"(?:([\d.]+)h)?(?:([\d.]+)m)?(?:([\d.]+)s?)?", words.strip())
        if not match or not any(match.groups()):
            raise InvalidInput(f"cannot read the time {words!r}: write 90s, 10m, 1h or 1h30m")
        try:
            hours, minutes, rest = (float(part or 0) for part in match.groups())
        except ValueError:
            raise InvalidInput(f"cannot read the time {words!r}: write 90s, 10m, 1h or 1h30m") from None
        seconds = 3600 * hours + 60 * minutes + rest
    if not 0 < seconds < float("inf"):
        raise InvalidInput(f"a budget must be more than nothing, got {words!r}")
    return seconds


def parse_share(words: str | float) -> float:
    """The fraction in ``2%`` or ``0.02``.

    >>> parse_share("2%"), parse_share(0.02)
    (0.02, 0.02)
    """
    plain = str(words).strip()
    try:
        found = float(plain.rstrip("% ")) / (100 if plain.endswith("%") else 1)
    except ValueError:
        found = -1.0
    if not 0 < found < 1:
        raise InvalidInput(f"a band is a share of the time, such as 2%; got {words!r}")
    return found


def refuse_unknown(words: Iterable[str], call: str, fields: type) -> None:
    """Raises `InvalidInput` for the first of `words` that is no field of the dataclass `fields`, which `call` takes."""
    known = [field.name for field in dataclasses.fields(fields) if field.name not in ("source", "out")]
    unknown = next((word for word in words if word not in known), None)
    if unknown is not None:
        near = difflib.get_close_matches(unknown, known, n=1)
        instead = f"nearest: {near[0]}" if near else f"it has {', '.join(sorted(known))}"
        raise InvalidInput(f"{call} has no {unknown!r}; {instead}")


def spec_of(
    source: str | Path, data: str | Path | None, weights: str | Path | None, seed: int, options: dict[str, Scalar]
) -> SubjectSpec:
    return SubjectSpec(
        source=str(source),
        data=None if data is None else str(data),
        weights=None if weights is None else str(weights),
        seed=seed,
        options={name: value for name, value in options.items() if value is not None},
    )


def run_folder(source: str | Path, out: str | Path | None, suffix: str) -> Path:
    if out is not None:
        return Path(out)
    words = str(source)
    name = words.partition(":")[2] if words.startswith("torchvision:") else Path(words.partition(":")[0]).stem
    return Path("runs") / f"{name}{suffix}"


def slug(words: str) -> str:
    """A folder's name for a model, a function or a command.

    >>> slug("zoo/resnet18.onnx"), slug("a.py:f"), slug("python b.py --fast"), slug("torchvision:resnet18")
    ('resnet18', 'a-f', 'python-b.py---fast', 'resnet18')
    """
    plain = words.removeprefix("torchvision:")
    if " " not in plain:
        head, _, name = plain.partition(":")
        path = Path(head)
        last = f"{path.parent.name}-{path.name}" if path.name in ("best", "baseline") else path.stem
        plain = f"{last}-{name}" if name else last
    return re.sub(r"[^\w.\-]+", "-", plain).strip("-.")[:60] or "it"


def known_region(region: str | None) -> str | None:
    """The region of the call or of ``STEELYARD_REGION``, known to have a grid factor."""
    from steelyard.probe.carbon import grid_factor, named_region

    named = named_region(region)
    return None if named is None else grid_factor(named).region
