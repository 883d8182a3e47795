"""Errors, files, signals, random streams, and the start of TensorFlow.

May import no other folder of this project.
"""
