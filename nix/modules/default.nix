# The modules that other configurations import.
_: { }
