"""Training: one loop for all tasks, and the tasks."""
