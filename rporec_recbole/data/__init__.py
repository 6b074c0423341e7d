"""Data as the model needs it: whole user sequences, the ladder of positions, item text, file checks."""

from rporec_recbole.tables.frames import from_frames

__all__ = ["from_frames"]
