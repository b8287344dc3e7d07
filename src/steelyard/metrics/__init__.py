"""Quality as pure functions of NumPy arrays: no model and no deep-learning framework needed.

``classification`` holds the metrics, ``table`` joins each to its range, direction and interval.
"""
