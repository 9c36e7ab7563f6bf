"""How nodes reach each other, one way a file; each a stranger to the others."""
