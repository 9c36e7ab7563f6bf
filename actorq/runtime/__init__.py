"""The actor engine, the only general trio code."""
