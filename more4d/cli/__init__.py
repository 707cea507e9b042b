"""Floor 6: the command line: parsing, progress bars, one-line errors. The work is done below."""
