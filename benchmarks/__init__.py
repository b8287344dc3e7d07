"""Side-by-side measurements behind every figure in the README; each script prints what it writes under `results/`."""
