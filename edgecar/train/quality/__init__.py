"""Weights of deep multi-scale IQA, from opinion scores or from a full-reference proxy."""
