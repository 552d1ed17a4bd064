"""Crashed machines, a network partition and a lost slot, each with more than a hundred pending orders.

The only intervention is to start a crashed machine again. No order is lost and none is applied twice."""

PRODUCT = "6d0c3f52-7a51-4c39-9d5e-2f1a6f1f0a01"
PRICE = 9
INITIAL = 400
MANY = 120

start()
sql(inventory, f"insert into products (id, name, price, stock) values ('{PRODUCT}', 'Fault', {PRICE}, {INITIAL})")
placed: set[str] = set()


def place_some() -> set[str]:
    """Places many orders; the Order Service accepts all of them whatever the state of the other machines."""
    some = place_many(MANY, PRODUCT, PRICE)
    placed.update(some)
    return some


def block_worker() -> None:
    """Blocks the worker: another transaction holds the lock of the product's row."""
    lock = f"begin; select from products where id = '{PRODUCT}' for update; select pg_sleep(86400)"
    command = f"{FACTS['psql']} -h /run/postgresql -p {FACTS['inventory_db']} -d inventory_db -qAtX -c {shlex.quote(lock)}"
    inventory.succeed(f"cd / && (runuser -u postgres -- {command} > /dev/null 2>&1 < /dev/null &)")
    locked = "select count(*) from pg_stat_activity where wait_event = 'PgSleep'"
    until("the row is locked", lambda: sql(inventory, locked) == "1")


def unblock_worker() -> None:
    sql(inventory, "select pg_terminate_backend(pid) from pg_stat_activity where wait_event = 'PgSleep'")


def all_settled() -> None:
    until("every order is settled", none_pending)


# The first order takes longer, because Debezium is warming up.
placed.add(place(PRODUCT, PRICE, 1))
all_settled()

with subtest("the machine of the broker and Kafka Connect crashes"):
    block_worker()
    some = place_some()
    t.assertEqual(pending(some), some)
    kafka.crash()
    unblock_worker()
    # The service still accepts orders; no outcome arrives.
    some |= place_some()
    t.assertEqual(pending(some), some)
    kafka.start()
    all_settled()
    t.assertEqual(stock(PRODUCT), INITIAL - len(placed))

with subtest("the machine of the inventory database and the worker crashes"):
    block_worker()
    some = place_some()
    t.assertEqual(pending(some), some)
    inventory.crash()
    inventory.start()
    all_settled()
    t.assertEqual(stock(PRODUCT), INITIAL - len(placed))

with subtest("the inventory machine is cut off the network"):
    inventory.block()
    some = place_some()
    t.assertEqual(pending(some), some)
    inventory.unblock()
    all_settled()
    # There were more orders than pieces.
    t.assertEqual(stock(PRODUCT), 0)

with subtest("the slot is lost"):
    block_worker()
    some = place_some()
    t.assertEqual(pending(some), some)
    # The connector reconnects at once, so terminating it and dropping the slot are retried together.
    order.wait_until_succeeds(
        f"cd / && runuser -u postgres -- {FACTS['psql']} -h /run/postgresql -p {FACTS['order_db']} -d order_db -qAtX -v ON_ERROR_STOP=1"
        " -c \"select pg_terminate_backend(active_pid) from pg_replication_slots where slot_name = 'order_outbox' and active\""
        " -c \"select pg_drop_replication_slot('order_outbox')\" 2> /dev/null"
    )
    some |= place_some()
    unblock_worker()
    all_settled()

with subtest("no order is lost and none is applied twice"):
    for connector in ["order-outbox", "inventory-outbox"]:
        wait_for_connector(connector)
    t.assertEqual(len(placed), 6 * MANY + 1)
    invariant_holds(placed, PRODUCT, INITIAL, INITIAL)
