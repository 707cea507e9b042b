"""Configuration, errors, seeding and optional packages. Imports no other package of more4d."""
