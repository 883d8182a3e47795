"""What predictions are worth: metrics, slices, rankings, what is similar. Computes, writes nothing.

May import `data.ratings`, `model.factors` and `system`, and never TensorFlow.
"""
