"""The life of a run: its stages in order, its folder, its controls, and how it comes back."""
