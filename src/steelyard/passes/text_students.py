"""Small nets that read codes of characters or words, built from the contract alone. Imports torch."""

from __future__ import annotations

import re

import torch
from torch import nn

from steelyard.errors import CannotApply, InvalidInput
from steelyard.records import Contract

__all__ = ["TEXT_STUDENTS", "TextCnn", "TextEncoder", "text_student"]

TEXT_STUDENTS = ("textcnn", "transformer")
_WIDTHS = (2, 3, 4)  # codes that a filter of a TextCnn spans
_HEAD = 32  # width of an attention head


def text_student(words: str, contract: Contract, rows: int) -> nn.Module:
    """``textcnn:WIDTH`` or ``transformer:LAYERSxWIDTH`` for codes below `rows`; 128, and 2x128, where none are given."""
    name, _, size = words.partition(":")
    if contract.layout != "T" or not contract.dtype.startswith("int"):
        raise CannotApply(
            f"{name} reads texts, whole numbers along T; this model takes {contract.dtype} in {contract.layout}"
        )
    numbers = re.fullmatch(r"(?:(\d+)x)?(\d+)", size or ("128" if name == "textcnn" else "2x128"))
    if numbers is None or (numbers[1] is None) != (name == "textcnn") or not int(numbers[2]) or numbers[1] == "0":
        raise InvalidInput(
            f"student {words!r}: give textcnn:WIDTH or transformer:LAYERSxWIDTH, such as transformer:2x128"
        )
    width, classes = int(numbers[2]), len(contract.labels)
    if name == "textcnn":
        return TextCnn(rows, width, classes)
    return TextEncoder(rows, contract.shape[0], width, int(numbers[1]), classes)


class _Codes(nn.Module):
    """An embedding in which codes beyond the last row share it, so that a text of unseen signs is no error."""

    def __init__(self, rows: int, width: int) -> None:
        super().__init__()
        self.rows = nn.Embedding(rows, width)

    def forward(self, codes: torch.Tensor) -> torch.Tensor:
        embedded: torch.Tensor = self.rows(codes.clamp(0, self.rows.num_embeddings - 1))
        return embedded


class TextCnn(nn.Module):
    """Filters two, three and four codes wide, and the largest answer of each (Kim 2014)."""

    def __init__(self, rows: int, width: int, classes: int) -> None:
        super().__init__()
        self.embedding = _Codes(rows, width)
        self.filters = nn.ModuleList(nn.Conv1d(width, width, size, padding=size // 2) for size in _WIDTHS)
        self.out = nn.Linear(len(_WIDTHS) * width, classes)

    def forward(self, codes: torch.Tensor) -> torch.Tensor:
        """Logits ``(n, classes)`` for codes ``(n, T)``."""
        embedded = self.embedding(codes).transpose(1, 2)
        answers = [torch.relu(layer(embedded)).amax(dim=2) for layer in self.filters]
        logits: torch.Tensor = self.out(torch.cat(answers, dim=1))
        return logits


class TextEncoder(nn.Module):
    """Transformer layers over codes and their positions, the mean of what they give (Vaswani et al. 2017)."""

    def __init__(self, rows: int, length: int, width: int, layers: int, classes: int) -> None:
        super().__init__()
        self.embedding = _Codes(rows, width)
        self.positions = nn.Parameter(0.02 * torch.randn(1, length, width))
        heads = width // _HEAD if width % _HEAD == 0 else 1
        layer = nn.TransformerEncoderLayer(width, heads, 4 * width, dropout=0.0, activation="gelu", batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.out = nn.Linear(width, classes)

    def forward(self, codes: torch.Tensor) -> torch.Tensor:
        """Logits ``(n, classes)`` for codes ``(n, T)``."""
        logits: torch.Tensor = self.out(self.encoder(self.embedding(codes) + self.positions).mean(dim=1))
        return logits
