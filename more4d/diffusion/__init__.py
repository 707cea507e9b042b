"""Floor 2: flow matching. Needs only a callable; knows no network."""
