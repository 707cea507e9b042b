"""Layer 6, the command line: arguments, progress bars, and errors in one line. Lower layers do the work."""
