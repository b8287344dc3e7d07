"""`steelyard evaluate`: what is known of one or more models from their answers to labelled examples.

`steelyard.pipeline.evaluation.evaluate` is the page to read first.
"""
