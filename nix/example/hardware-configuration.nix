# Stands for a machine's own file, which describes its disks and boot loader.
{
  boot.isContainer = true;
  system.stateVersion = "26.05";
}
