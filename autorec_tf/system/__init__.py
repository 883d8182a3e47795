"""What any program needs: errors, files, signals, random streams, how TensorFlow starts.

May import nothing of ours.
"""
