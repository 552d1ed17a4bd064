# The environment variable of a service's setting, such as ORDER__DATABASE__PASSWORD_FILE.
{ lib, name }:
setting:
let
  upper = text: lib.toUpper (lib.replaceStrings [ "-" ] [ "_" ] text);
  # Below these sections, an underscore stands for a dot of the property's name.
  property = builtins.match "(kafka\\.properties|kafka\\.property_files|connector\\.properties)\\.(.*)" setting;
  path = if property == null then setting else lib.head property;
  rest =
    lib.optionalString (property != null)
      "__${upper (lib.replaceStrings [ "." ] [ "_" ] (lib.last property))}";
in
"${upper name}__${upper (lib.replaceStrings [ "." ] [ "__" ] path)}${rest}"
