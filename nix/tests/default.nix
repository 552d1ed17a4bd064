# The tests in virtual machines.
_: { }
