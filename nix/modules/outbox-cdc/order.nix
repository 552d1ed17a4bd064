# The Order Service: accepts orders, publishes them through its outbox and applies their outcomes.
args:
import ./publisher.nix (
  args
  // {
    name = "order";
    title = "the Order Service";
    listens = true;
  }
)
