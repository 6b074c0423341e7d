"""Data as the model needs it: whole user sequences, the ladder of positions, item text, file checks."""
