"""Systems of equations as numbers: slow, straight from the definitions, in float64, complex or 50 digits."""
