"""The training of a model, epoch by epoch.

May import `AutoRec`, `model`, `evaluation`, `data.ratings`, `config` and `system`.
"""
