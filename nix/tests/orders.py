"""Orders: how the tests place them, read their outcome, and check the invariant over sets of order ids."""

MOUSE = "6ba7b810-9dad-11d1-80b4-00c04fd430c8"


def orders_url(machine=None) -> str:
    return f"http://{'127.0.0.1' if machine is None else 'order'}:{PORTS['order']}/orders"


def post(body: str, machine=None) -> tuple[int, Any]:
    """Posts an order, from the Order Service's own machine unless another one is given."""
    return request(machine or order, orders_url(machine), "-d", body)


def body(product: str, price: int, quantity: int) -> str:
    return json.dumps({"product_id": product, "estimated_price": price, "quantity": quantity})


def place(product: str, price: int, quantity: int) -> str:
    status, answer = post(body(product, price, quantity))
    t.assertEqual(status, 201, answer)
    return answer["id"]


def place_many(count: int, product: str, price: int) -> set[str]:
    """Places `count` orders of one piece each, one after another; every one is accepted."""
    # The query string differs in each request, so that curl sends `count` of them; the service ignores it.
    url = f"{orders_url()}?[1-{count}]"
    command = shlex.join(["curl", "-sS", "-w", r"\n%{http_code}\n", "-d", body(product, price, 1), url])
    lines = order.succeed(command).split()
    t.assertEqual(lines[1::2], ["201"] * count)
    ids = {json.loads(line)["id"] for line in lines[0::2]}
    t.assertEqual(len(ids), count)
    return ids


def settled(id: str) -> Any:
    """Waits for the outcome of an order and returns the order."""

    def outcome() -> Any:
        status, answer = request(order, f"{orders_url()}/{id}")
        t.assertEqual(status, 200)
        return answer if answer["status"] != "pending" else None

    return until(f"order {id} is settled", outcome)


def stock(product: str) -> int:
    """The stock as the Inventory Service shows it."""
    _, products = request(inventory, f"http://127.0.0.1:{PORTS['inventory']}/products")
    return {shown["id"]: shown["stock"] for shown in products}[product]


def sql_list(ids: set[str]) -> str:
    return "(" + ",".join(f"'{id}'" for id in sorted(ids)) + ")"


def pending(orders: set[str]) -> set[str]:
    return rows(order, f"select id from orders where id in {sql_list(orders)} and status = 'pending'")


def none_pending() -> bool:
    return sql(order, "select count(*) from orders where status = 'pending'") == "0"


def messages(topic: str) -> set[str]:
    """Every message of a topic, as `order id|event id`."""
    consumer = f"{FACTS['consumer']} --bootstrap-server 127.0.0.1:{PORTS['kafka_internal']} --topic {topic}"
    out = kafka.succeed(
        f"KAFKA_HEAP_OPTS=-Xmx128m {consumer} --from-beginning --timeout-ms 60000"
        " --property print.key=true --property print.headers=true --property print.value=false 2> /dev/null"
    )
    found = set()
    for line in out.splitlines():
        headers, _, key = line.partition("\t")
        if key:
            named = dict(header.split(":", 1) for header in headers.split(","))
            found.add(f"{key.strip()}|{named['id']}")
    return found


def invariant_holds(orders: set[str], product: str, initial: int, confirmed: int) -> None:
    """Checks the invariant over exactly these orders, each for one piece of the same product: every order has one
    order.placed and one outcome; both are in Kafka and in the inbox of their listener; none is a dead letter; both
    databases agree; the stock fell by the number of confirmed orders; both slots are drained."""
    until("every order is settled", none_pending)
    within = f"aggregateid in {sql_list(orders)}"
    placed = rows(order, f"select aggregateid, id from outbox where aggregatetype = 'order' and {within}")
    outcomes = rows(inventory, f"select aggregateid, id from outbox where aggregatetype = 'reservation' and {within}")
    for what, events, topic, consumer, listener in [
        ("order.placed", placed, "order", inventory, "inventory-worker"),
        ("outcome", outcomes, "reservation", order, "order"),
    ]:
        about = [event.split("|")[0] for event in events]
        t.assertEqual(sorted(about), sorted(orders), f"every order has exactly one {what}")
        ids = {event.split("|")[1] for event in events}
        t.assertEqual(events - messages(topic), set(), f"every {what} is in Kafka")
        inbox = rows(consumer, f"select id from inbox where listener = '{listener}' and id in {sql_list(ids)}")
        t.assertEqual(inbox, ids, f"every {what} is settled")
        dead_letters = sql(consumer, f"select count(*) from dead_letter where id in {sql_list(ids)}")
        t.assertEqual(dead_letters, "0", f"no {what} was dead-lettered")
    statuses = rows(order, f"select id, status, coalesce(reason, '') from orders where id in {sql_list(orders)}")
    decisions = rows(
        inventory,
        "select order_id, case when reason is null then 'confirmed' else 'rejected' end, coalesce(reason, '')"
        f" from reservations where order_id in {sql_list(orders)}",
    )
    t.assertEqual(statuses, decisions, "an order's status is inventory's decision")
    t.assertEqual(sum("|confirmed|" in status for status in statuses), confirmed)
    t.assertEqual(stock(product), initial - confirmed)
    for machine in [order, inventory]:
        now = sql(machine, "select pg_current_wal_lsn()")
        drained = f"select pg_wal_lsn_diff('{now}', confirmed_flush_lsn) <= 0 from pg_replication_slots"
        until(f"the slot of {machine.name} is drained", lambda: sql(machine, drained) == "t")
