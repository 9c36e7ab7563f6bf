"""The rules: pure, with time as an argument."""
