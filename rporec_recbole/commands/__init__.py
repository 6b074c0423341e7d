"""The sub-commands of `rporec`, one a file: each holds a `command` of click. What is heavy is imported when it is called."""
