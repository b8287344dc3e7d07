"""The main job: `steelyard.pipeline.optimize` is the page to read first."""
