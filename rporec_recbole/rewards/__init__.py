"""What stage 2 pays for: small pure functions of one record, weighted and gated by the config."""
