"""Floor 0: configuration, errors, logging, seeding, optional packages. Imports nothing else of more4d."""
