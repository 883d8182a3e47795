"""What measures speed, size and accuracy, and nothing else; a script a question.

Each writes what it found under `results/` in this folder, and prints what a page of docs/ quotes.
May import everything but the tests; nobody but them imports a benchmark.
"""
