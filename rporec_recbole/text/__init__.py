"""What the language model reads and writes."""
