"""Floor 5: one loop for every task, and the tasks."""
