# The modules that other configurations import.
{ self, parts }:
{ }
