# The assertion that the version of a package is accepted, for the option that sets the package.
{ lib, parts }:
{
  # The part, by its name in routes.json and in the message, and the prefix of the message.
  part,
  title,
  of,
  package,
  option,
}:
let
  range = parts.routes.accepted.${part};
in
{
  assertion = parts.accepted.${part} package.version;
  message = "${of}: ${title} ${package.version} is not accepted (from ${lib.head range}, below ${lib.last range}); set ${option}";
}
