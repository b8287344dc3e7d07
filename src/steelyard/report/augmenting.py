"""What augmentation makes of examples, and how many of their labels a checker then disputes, as tables for the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from steelyard.records import Contract, Estimate, LabelCheck, Unavailable
from steelyard.report import numbers
from steelyard.stats.proportion import wilson

__all__ = ["check_rows", "checks_json", "checks_table", "contract_line", "disputed", "disputes_table", "rewrites_table"]


def disputed(check: LabelCheck, level: float = 0.95) -> Estimate | Unavailable:
    """The share of changed examples whose label the checker disputes, of those that it agreed with before: Wilson's interval."""
    if not check.changed:
        return Unavailable(quantity="disputed", reason=f"{check.word} changed none of the {check.agreed} examples")
    low, high = wilson(check.disputed, check.changed, level)
    return Estimate(
        quantity="disputed", unit="fraction", value=check.disputed / check.changed, low=low, high=high, level=level,
        method="Wilson", n=check.changed,
    )  # fmt: skip


def check_rows(checks: Sequence[LabelCheck]) -> Iterator[tuple[str, str, str]]:
    """Word, changed examples of those that the checker knew, and the share whose label it disputes with its interval."""
    for check in checks:
        found = disputed(check)
        shown = (
            found.reason
            if isinstance(found, Unavailable)
            else numbers.interval(found.value, found.low, found.high, found.unit)
        )
        yield f"{check.word}: {_value(check.value)}", f"{check.changed} of {check.agreed}", shown


def checks_table(checks: Sequence[LabelCheck]) -> Table:
    """A row for each word of the recipe."""
    table = _table("Labels after augmentation", "word", "changed", "disputed")
    for row in check_rows(checks):
        table.add_row(*row)
    if checks:
        known = numbers.quantity(checks[0].agreed / checks[0].examples, "fraction")
        table.caption = Text(
            f"The checker agreed with the labels of {known} of {checks[0].examples} unchanged examples. Disputed: of those that a word "
            "changed, it now says another class. In brackets: 95 % intervals.",
            style="dim",
        )
        table.caption_justify = "left"
    return table


def disputes_table(checks: Sequence[LabelCheck]) -> Table | None:
    """Texts whose labels are disputed, a few of each word; None for pictures, and where there are none."""
    rows = [(check.word, *shown) for check in checks for shown in check.shown if not _is_png(shown[0])]
    if not rows:
        return None
    table = _table("Disputed", "word", "before", "after", "label", "said")
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def rewrites_table(rewrites: Sequence[tuple[str, str]]) -> Table:
    """Texts before and after, where all words of the recipe act together."""
    table = _table("What the net sees", "before", "after")
    for before, after in rewrites:
        table.add_row(Text(before), Text(after))
    return table


def contract_line(declared: Contract, standardised: Contract) -> str:
    """The data's own mean and standard deviation beside those that the contract declares.

    >>> contract_line(Contract(shape=(1, 8, 8)), Contract(shape=(1, 8, 8), mean=(4.9,), std=(6.02,)))
    'contract  mean=(0,), std=(1,); the training examples have mean=(4.9,), std=(6.02,)'
    """

    def shown(contract: Contract) -> str:
        mean, std = (", ".join(f"{v:.4g}" for v in values) for values in (contract.mean, contract.std))
        comma = "," if len(contract.mean) == 1 else ""
        return f"mean=({mean}{comma}), std=({std}{comma})"

    return f"contract  {shown(declared)}; the training examples have {shown(standardised)}"


def checks_json(checks: Sequence[LabelCheck]) -> list[dict[str, Any]]:
    """The same as plain values."""
    return [
        {
            "word": check.word,
            "value": check.value,
            "examples": check.examples,
            "agreed": check.agreed,
            "changed": check.changed,
            "disputed": check.disputed,
            "share": _plain(disputed(check)),
            "shown": [dict(zip(("before", "after", "label", "said"), shown, strict=True)) for shown in check.shown],
        }
        for check in checks
    ]


def _plain(found: Estimate | Unavailable) -> dict[str, Any]:
    if isinstance(found, Unavailable):
        return {"unavailable": found.reason}
    return {"value": found.value, "low": found.low, "high": found.high, "level": found.level, "method": found.method}


def _value(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)


def _is_png(words: str) -> bool:
    return words.startswith("iVBORw0KGgo")  # a PNG's first bytes in base64


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table
