"""Listeners to what the system reports."""
