"""Weight files: inspect what a file is, load it strictly, convert it."""
