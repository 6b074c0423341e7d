"""A finished run as a service: answers come from the trunk or from stored reasoning, never from a waiting language model."""
