"""What leaves a finished run: lists of recommendations, vectors, and the tables they are written to."""
