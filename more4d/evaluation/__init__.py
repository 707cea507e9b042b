"""Quality of a preset on scenes and photos that no training uses; baselines without networks."""
