# A value as Kafka's configuration has it: text.
{ lib }: value: if lib.isBool value then lib.boolToString value else toString value
