"""Steelyard puts a deep-learning model on the scale, makes it better, and proves the result."""
