"""Before and after, to verdicts: met, broken or undecided."""
