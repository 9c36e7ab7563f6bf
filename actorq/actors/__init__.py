"""The thin shells: queue and worker, and what runs tasks."""
