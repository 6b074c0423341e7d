"""What a run can be told: the YAML files, the types of all settings, and the rules they obey."""
