"""Results: ranks of every evaluated row, paired statistics, figures."""
