"""A finished run, online: the index of its items and the ranking that requests are answered with."""
