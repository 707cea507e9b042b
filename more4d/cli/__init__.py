"""Floor 6: the command line. Parsing, progress bars and one-line errors; everything else is called from below."""
