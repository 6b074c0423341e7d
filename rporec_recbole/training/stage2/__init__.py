"""Stage 2: GRPO with rewards of the frozen head, its rounds, and what watches over it."""
