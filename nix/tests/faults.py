"""Machines that crash, links that are cut, a slot that is lost: in mid-flow, with a hundred orders and more unsettled.
Nobody steps in but to switch a machine on again; nothing is lost, nothing is done twice."""

PRODUCT = "6d0c3f52-7a51-4c39-9d5e-2f1a6f1f0a01"
PRICE = 9
INITIAL = 400
MANY = 120

start()
sql(inventory, f"insert into products (id, name, price, stock) values ('{PRODUCT}', 'Fault', {PRICE}, {INITIAL})")
placed: set[str] = set()


def place_some() -> set[str]:
    """Places many orders; however the rest of the system is, all of them are taken."""
    some = place_many(MANY, PRODUCT, PRICE)
    placed.update(some)
    return some


def hold_worker() -> None:
    """Keeps the worker from the product, as another transaction might."""
    hold = f"begin; select from products where id = '{PRODUCT}' for update; select pg_sleep(86400)"
    command = f"{FACTS['psql']} -h /run/postgresql -p {FACTS['inventory_db']} -d inventory_db -qAtX -c {shlex.quote(hold)}"
    inventory.succeed(f"cd / && (runuser -u postgres -- {command} > /dev/null 2>&1 < /dev/null &)")
    held = "select count(*) from pg_stat_activity where wait_event = 'PgSleep'"
    until("the worker is held", lambda: sql(inventory, held) == "1")


def release_worker() -> None:
    sql(inventory, "select pg_terminate_backend(pid) from pg_stat_activity where wait_event = 'PgSleep'")


def all_settled() -> None:
    until("all of them are settled", none_pending)


# The first order takes long: Debezium is still warming up.
placed.add(place(PRODUCT, PRICE, 1))
all_settled()

with subtest("the broker's machine crashes, and Kafka Connect with it"):
    hold_worker()
    some = place_some()
    t.assertEqual(pending(some), some)
    kafka.crash()
    release_worker()
    # The service goes on taking orders; no outcome reaches it.
    some |= place_some()
    t.assertEqual(pending(some), some)
    kafka.start()
    all_settled()
    t.assertEqual(stock(PRODUCT), INITIAL - len(placed))

with subtest("the inventory's machine crashes, with its database and the worker"):
    hold_worker()
    some = place_some()
    t.assertEqual(pending(some), some)
    inventory.crash()
    inventory.start()
    all_settled()
    t.assertEqual(stock(PRODUCT), INITIAL - len(placed))

with subtest("the network of the inventory's machine is cut"):
    inventory.block()
    some = place_some()
    t.assertEqual(pending(some), some)
    inventory.unblock()
    all_settled()
    # There were not enough for all.
    t.assertEqual(stock(PRODUCT), 0)

with subtest("the slot is lost"):
    hold_worker()
    some = place_some()
    t.assertEqual(pending(some), some)
    # Whoever reads it comes back at once.
    order.wait_until_succeeds(
        f"cd / && runuser -u postgres -- {FACTS['psql']} -h /run/postgresql -p {FACTS['order_db']} -d order_db -qAtX -v ON_ERROR_STOP=1"
        " -c \"select pg_terminate_backend(active_pid) from pg_replication_slots where slot_name = 'order_outbox' and active\""
        " -c \"select pg_drop_replication_slot('order_outbox')\" 2> /dev/null"
    )
    some |= place_some()
    release_worker()
    all_settled()

with subtest("no order is lost, none was applied twice"):
    for connector in ["order-outbox", "inventory-outbox"]:
        connector_runs(connector)
    t.assertEqual(len(placed), 6 * MANY + 1)
    invariant_holds(placed, PRODUCT, INITIAL, INITIAL)
