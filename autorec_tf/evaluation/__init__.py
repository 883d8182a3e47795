"""Evaluation: metrics, slices, rankings and item similarity. It writes no files.

May import `data.ratings`, `model.factors` and `system`, and never TensorFlow.
"""
