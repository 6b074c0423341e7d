"""Reasoning texts: composed for training, generated for use, kept in a store."""
