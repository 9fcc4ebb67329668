"""Weights from photographs and a recipe."""
