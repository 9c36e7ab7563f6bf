"""Where records are kept, one module for each kind."""
