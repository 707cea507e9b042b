"""What a preset needs before anything of it is loaded: weights, memory and operations."""
