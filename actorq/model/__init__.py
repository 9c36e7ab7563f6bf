"""The values that the floors exchange."""
