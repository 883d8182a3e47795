"""The records of a run: its folder, report, figures, progress line, checkpoint, Comet and
TensorBoard.

May import `evaluation`, `data.ratings`, `config`, `resolution` and `system`, but never a model;
only `checkpoint.py` and `tensorboard.py` import TensorFlow.
"""
