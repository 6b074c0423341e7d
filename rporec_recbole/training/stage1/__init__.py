"""Stage 1: the trunk, the warm-up of the backbone, and the fusion that reads what it writes."""
