"""What measures speed, size and accuracy, and nothing else; a script a question."""
