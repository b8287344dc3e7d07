"""Quality as pure functions of NumPy arrays: no model and no deep-learning framework needed.

===================  ==============================================================================
``examples``         labelled examples and what a model said of them, checked once
``table``            every metric by name: its value, interval and difference between two models
``rows``             the metrics themselves, a row each: range, direction, undefined cases, family
``families``         how values, intervals and differences are made: confusion tables, sums
``areas``            the same for areas under curves and the calibration error
``meter``            the incremental form: batches in, one answer out
``classification``   metrics of hard predictions, from the confusion table
``losses``           losses of each example
``multilabel``       several labels an example
``regression``       RMSE, MAE, R2, MAPE
``ranking``          recall@k, precision@k, MRR, nDCG, mean average precision
``language``         perplexity, bits per byte, exact match, F1 of words
``curves``           ROC and precision-recall curves with bands
``calibration``      calibration error, reliability, Brier score, temperature
``streaming``        areas in constant memory, with a guaranteed bound
``slices``           a metric inside each slice against the rest
``threshold``        the decision threshold for a target or for costs
``objectives``       which metric leads, for what a model is for (``objectives.json``)
``fields``           detection, segmentation, translation, summaries, speech: by their own libraries
===================  ==============================================================================
"""
