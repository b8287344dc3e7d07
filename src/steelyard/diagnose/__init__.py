"""Numbers in, findings out: what holds a model back and what each plan could gain."""

from steelyard.diagnose.findings import diagnose

__all__ = ["diagnose"]
