"""Pages for people: what a run recommended to a user, and what the reasoning had to do with it."""
