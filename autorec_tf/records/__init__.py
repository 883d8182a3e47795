"""What a run leaves: its folder, report, pictures, live line, checkpoint, Comet and TensorBoard.

May import `evaluation`, `data.ratings`, `config`, `resolution` and `system`, and never a model;
TensorFlow in `checkpoint.py` and `tensorboard.py` alone.
"""
