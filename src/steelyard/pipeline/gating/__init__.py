"""`steelyard gate`: whether a change may pass."""
