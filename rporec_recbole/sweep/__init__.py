"""Hyperparameter sweeps: what is searched, the study that workers share, and what is reported of it."""
