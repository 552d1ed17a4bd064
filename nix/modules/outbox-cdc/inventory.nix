# The Inventory Service: shows the stock. Its database holds the outbox that the worker writes to.
args:
import ./publisher.nix (
  args
  // {
    name = "inventory";
    title = "the Inventory Service";
    listens = false;
  }
)
