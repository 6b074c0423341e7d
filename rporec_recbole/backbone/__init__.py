"""The language model: its tokenizer, its sources, its training and its generation engine."""
