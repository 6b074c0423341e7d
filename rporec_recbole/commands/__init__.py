"""The sub-commands of `rporec`, one a file: each has its `HELP` and a `main` that takes the arguments behind its name."""
