"""Intervals, paired tests, order statistics and change-points: floats in, floats out.

===================  ==============================================================================
``proportion``       Wilson, Tango, Newcombe, McNemar: counts of right and wrong answers
``auc``              areas under the ROC and precision-recall curves, alone and paired
``sums``             functions of sums over examples: jackknife standard errors and their intervals
``exact``            sums that no order or batching changes
``quantiles``        two-sided critical values
``paired``           ratios of times from rounds in which two arms took turns
``order``            percentiles bounded by order statistics
``multiple``         Holm's step-down over several claims
``changepoint``      where warm-up ends
``bootstrap``        confusion tables resampled as multinomials, alone and paired
===================  ==============================================================================
"""
