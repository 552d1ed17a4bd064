# The tests in virtual machines.
{ self, pkgs }:
{ }
