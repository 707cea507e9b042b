"""Numbers that say how good a result is; nothing here changes a result."""
