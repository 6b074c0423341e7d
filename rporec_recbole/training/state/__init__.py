"""What a training keeps: weights, snapshots, curves, which positions taught what, and the processes that share it."""
