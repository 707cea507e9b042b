"""What is trained: one module per network."""
