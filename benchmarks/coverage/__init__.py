"""Do the intervals hold the truth as often as they say? Simulated where the truth is known, one module a family.

    python -m benchmarks.coverage

prints the tables and writes them to ``benchmarks/results/coverage.md``; one core, fixed seeds. With the names of tables,
as in ``python -m benchmarks.coverage auc ece``, those alone are made anew and the others stay as they are.

All metrics are asked through `steelyard.metrics.table`, as a user's predictions are.
"""
