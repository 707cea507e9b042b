"""How good a preset is, measured on what it has never seen, beside baselines that need no network."""
