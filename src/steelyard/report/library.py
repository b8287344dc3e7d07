"""The script library of the pages. It takes seconds to bundle, so the bundle is kept in the user's cache folder."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable
from functools import cache
from importlib.metadata import version
from pathlib import Path

__all__ = ["kept", "library"]

_EXPORT = "window.vegaEmbed = vegaEmbed;"


@cache
def library() -> str:
    """Vega, Vega-Lite and Vega-Embed in one script, kept out of the global scope but for `vegaEmbed`."""
    bundle = kept(f"vega-{version('vl-convert-python')}.js", _bundled)
    return "(() => {" + bundle.replace("</script", "<\\/script").replace("\r", "") + "\n})();"


def _bundled() -> str:
    import vl_convert

    return vl_convert.javascript_bundle(_EXPORT)


def kept(name: str, make: Callable[[], str]) -> str:
    """What `make` makes, from the file of this name in the user's cache folder where it stands there whole.

    The folder is ``$XDG_CACHE_HOME/steelyard``, or ``~/.cache/steelyard``. A file that is damaged or of somebody else is
    made anew; a folder that cannot be written only costs the time.
    """
    folder = _folder()
    found = _read(folder / name) if folder else None
    if found is None:
        found = make()
        if folder:
            with contextlib.suppress(OSError):
                _write(folder / name, found)
    return found


def _folder() -> Path | None:
    named = Path(os.environ.get("XDG_CACHE_HOME", ""))  # by the XDG specification a relative one is ignored
    if named.is_absolute():
        return named / "steelyard"
    try:
        return Path.home() / ".cache" / "steelyard"
    except RuntimeError:  # a user without a home
        return None


def _read(path: Path) -> str | None:
    """The content under its digest, or None if there is no such file, or not as this user wrote it."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            mine = os.fstat(file.fileno()).st_uid == os.getuid()
            digest, content = file.readline().rstrip("\n"), file.read()
    except (OSError, UnicodeDecodeError):
        return None
    return content if mine and digest == _digest(content) else None


def _write(path: Path, content: str) -> None:
    """Written beside its place and moved there, so that no other process reads half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        beside.write_text(f"{_digest(content)}\n{content}", encoding="utf-8", newline="")
        beside.replace(path)
    except OSError:
        beside.unlink(missing_ok=True)
        raise


def _digest(content: str) -> str:
    return hashlib.sha256(content.encode()).hexdigest()
