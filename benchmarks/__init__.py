"""Benchmarks of speed, memory and accuracy, one script per question.

Each script writes its results under `results/` in this folder and prints the tables of a page in
docs/. Benchmarks may import everything except the tests; only tests import benchmarks.
"""
