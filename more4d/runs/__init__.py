"""Items on disk: a job, its folder, its record, its sheets."""
