# An empty directory for DirectoryConfigProvider, which needs one that exists; systemd creates none for a unit without
# credentials.
{ pkgs }: pkgs.runCommand "no-credentials" { } "mkdir $out"
