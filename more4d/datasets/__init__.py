"""Floor 4: what training reads."""
