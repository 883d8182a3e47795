"""AutoRec for TensorFlow: everything but the model and the preprocessor, which are beside it."""
