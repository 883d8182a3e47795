"""The building blocks of AutoRec: parameters, mini-batches, the two engines, the optimisers, and a
trained model ready to predict. They work on rows and columns and never read a file.

May import `config`, `data.ratings` and `system`.
"""
