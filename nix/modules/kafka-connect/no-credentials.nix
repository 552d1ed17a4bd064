# Stands for the folder of credentials: the provider wants one that is there, and systemd makes none without a credential.
{ pkgs }: pkgs.runCommand "no-credentials" { } "mkdir $out"
