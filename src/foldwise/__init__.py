"""Cross-validation of image classifiers whose every number can be traced to data, parameters and code."""
