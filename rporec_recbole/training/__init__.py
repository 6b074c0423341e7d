"""The stages: trunk, backbone warm-up, fusion, reinforcement learning, re-alignment."""
