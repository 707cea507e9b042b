"""Floor 3: the networks. One screen each: configuration, constructor, forward."""
