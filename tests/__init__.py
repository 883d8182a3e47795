"""Facts about the program, one module of them for each of its own."""
