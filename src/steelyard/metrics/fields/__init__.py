"""Metrics of whole fields, through each field's own library: detection, segmentation, translation and summaries, speech.

Point values come from the library that the field publishes with (pycocotools, sacrebleu, rouge-score, jiwer; the extra
``fields``); segmentation needs NumPy only. Intervals resample images, sentences or clusters of them: see
:mod:`steelyard.metrics.fields.resampling`. Each field's module has the same shape: a ``read`` of its file formats,
``score`` of one model and ``compare`` of two on the same examples.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

__all__ = ["FIELD_METRICS", "FieldMetric", "field_metric"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldMetric:
    """One row of the table of field metrics: what its numbers mean, without any code that makes them."""

    name: str
    title: str
    field: str  # the module that scores it: detection | segmentation | text | speech
    unit: str = "fraction"  # "points" where the field writes 0 to 100
    low: float = 0.0  # the smallest possible value
    high: float = 1.0  # the largest possible value; infinite for error rates, which count insertions too
    higher_is_better: bool = True

    @property
    def span(self) -> float:
        """What the field writes for a whole unit: 100 for points, 1 for fractions."""
        return 100.0 if self.unit == "points" else 1.0


_ROWS = (
    FieldMetric(name="map", title="mAP@[.5:.95]", field="detection"),
    FieldMetric(name="ap50", title="AP at IoU 0.50", field="detection"),
    FieldMetric(name="ap75", title="AP at IoU 0.75", field="detection"),
    FieldMetric(name="ap_small", title="AP, objects under 32² pixels", field="detection"),
    FieldMetric(name="ap_medium", title="AP, objects of 32² to 96² pixels", field="detection"),
    FieldMetric(name="ap_large", title="AP, objects over 96² pixels", field="detection"),
    FieldMetric(name="ar100", title="AR, 100 detections per image", field="detection"),
    FieldMetric(name="miou", title="Mean IoU over classes", field="segmentation"),
    FieldMetric(name="dice", title="Mean Dice over classes", field="segmentation"),
    FieldMetric(name="pixel_accuracy", title="Pixel accuracy", field="segmentation"),
    FieldMetric(name="class_iou", title="IoU of one class", field="segmentation"),
    FieldMetric(name="class_dice", title="Dice of one class", field="segmentation"),
    FieldMetric(name="bleu", title="BLEU", field="text", unit="points", high=100.0),
    FieldMetric(name="chrf", title="chrF", field="text", unit="points", high=100.0),
    FieldMetric(
        name="ter", title="Translation edit rate", field="text", unit="points", high=math.inf, higher_is_better=False
    ),
    FieldMetric(name="rouge1", title="ROUGE-1 F", field="text"),
    FieldMetric(name="rouge2", title="ROUGE-2 F", field="text"),
    FieldMetric(name="rougeL", title="ROUGE-L F", field="text"),
    FieldMetric(name="wer", title="Word error rate", field="speech", high=math.inf, higher_is_better=False),
    FieldMetric(name="cer", title="Character error rate", field="speech", high=math.inf, higher_is_better=False),
)

FIELD_METRICS: Mapping[str, FieldMetric] = MappingProxyType({row.name: row for row in _ROWS})
"""Every field metric by name. BLEU, chrF and TER keep their field's scale, points from 0 to 100 (TER can exceed it)."""


def field_metric(quantity: str) -> FieldMetric:
    """The row of a quantity; a class's own value ``class_iou[road]`` has the row ``class_iou``.

    >>> field_metric("class_iou[road]").title
    'IoU of one class'
    """
    return FIELD_METRICS[quantity.partition("[")[0]]
