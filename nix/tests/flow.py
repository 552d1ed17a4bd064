"""Orders and rejections, access to the databases, secrets, unit hardening, and the declared connectors."""

start()

with subtest("the database has the eight products of the migrations"):
    _, products = request(inventory, f"http://127.0.0.1:{PORTS['inventory']}/products")
    t.assertEqual(len(products), 8)
    t.assertEqual(stock(MOUSE), 200)

with subtest("an order decreases the stock and is confirmed"):
    # From another machine, through the firewall.
    status, answer = post(body(MOUSE, 25, 2), kafka)
    t.assertEqual(status, 201, answer)
    first = settled(answer["id"])
    times = {"placed_at": first["placed_at"], "settled_at": first["settled_at"]}
    expected = {"id": answer["id"], "product_id": MOUSE, "quantity": 2, "estimated_price": 25, "status": "confirmed"}
    t.assertEqual(first, {**expected, **times})
    t.assertEqual(stock(MOUSE), 198)

with subtest("an invalid order is refused, an impossible one is rejected, and the stock stays"):
    for bad, status in [
        ("{", 422),
        (json.dumps({"product_id": "mouse", "estimated_price": 25, "quantity": 1}), 422),
        ("{}", 400),
        (body(MOUSE, 25, 0), 400),
    ]:
        t.assertEqual(post(bad)[0], status, bad)
    unknown = "00000000-0000-4000-8000-000000000000"
    refusals: list[tuple[str, int, int, dict[str, Any]]] = [
        (MOUSE, 24, 1, {"reason": "price_mismatch", "actual_price": 25}),
        (MOUSE, 25, 199, {"reason": "insufficient_stock", "requested": 199, "available": 198}),
        (unknown, 25, 1, {"reason": "product_not_found"}),
    ]
    for product, price, quantity, facts in refusals:
        refused = settled(place(product, price, quantity))
        t.assertEqual(refused["status"], "rejected")
        t.assertEqual({fact: refused.get(fact) for fact in facts}, facts)
    t.assertEqual(stock(MOUSE), 198)
    t.assertEqual(sql(order, "select status, count(*) from orders group by 1 order by 1"), "confirmed|1\nrejected|3")

with subtest("each role can connect only from its machine and only to its database"):

    def can_connect(machine, host: str, user: str, database: str, password: str, *options: str) -> bool:
        address = shlex.quote(" ".join([f"host={host} port={FACTS['order_db']} dbname={database} user={user}", *options]))
        return machine.execute(f"PGPASSWORD={password} {FACTS['psql']} -qAtX -c 'select 1' {address} 2>&1")[0] == 0

    cdc, service, owner = (SECRETS[role] for role in ["order_cdc", "order_service", "order_owner"])
    t.assertTrue(can_connect(kafka, "order", "order_cdc", "order_db", cdc))
    t.assertFalse(can_connect(kafka, "order", "order_cdc", "order_db", "wrong"))
    t.assertFalse(can_connect(kafka, "order", "order_cdc", "postgres", cdc))
    t.assertFalse(can_connect(kafka, "order", "order_service", "order_db", service))
    t.assertFalse(can_connect(kafka, "order", "order_owner", "order_db", owner))
    t.assertFalse(can_connect(inventory, "order", "order_cdc", "order_db", cdc))
    t.assertTrue(can_connect(order, "127.0.0.1", "order_service", "order_db", service))
    t.assertFalse(can_connect(order, "127.0.0.1", "order_service", "postgres", service))
    for machine, host in [(kafka, "order"), (order, "127.0.0.1")]:
        # Physical replication would read the whole cluster.
        t.assertFalse(can_connect(machine, host, "order_cdc", "order_db", cdc, "replication=true"))

with subtest("local ports are closed to other machines"):
    for machine, host, port in [
        (order, "kafka", "connect"),
        (order, "kafka", "kafka_internal"),
        (kafka, "inventory", "inventory"),
        (kafka, "inventory", "worker"),
    ]:
        machine.fail(f"timeout 10 bash -c 'exec 3<> /dev/tcp/{host}/{PORTS[port]}'")
    for machine, host, port in [(order, "kafka", "kafka"), (kafka, "order", "order_db"), (kafka, "order", "order")]:
        machine.succeed(f"timeout 60 bash -c 'exec 3<> /dev/tcp/{host}/{PORTS[port]}'")

with subtest("no secret is in the store, in a process, in the journal or in an answer of the REST API"):
    # The secrets were written at run time; the module checks cover what a build could write.
    named = "-oE '/nix/store/[a-z0-9]{32}-[A-Za-z0-9+._?=-]+'"
    for machine in [order, inventory, kafka]:

        def holders(what: str) -> str:
            """The output of a search for the machine's secrets."""
            return machine.succeed(f"{{ {what}; }} 2> /dev/null || true").strip()

        # The store paths in processes, and the store paths in those files.
        machine.succeed(
            f"for file in {FACTS['secrets']}/*; do cat $file; echo; done | grep . > /tmp/secrets",
            # A process may exit during the search.
            "{ cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ || true; } 2> /dev/null"
            f" | grep -a {named} | sort -u > /tmp/named",
            f"{{ xargs grep -rhI {named} < /tmp/named || true; }} 2> /dev/null | sort -u - /tmp/named > /tmp/paths",
        )
        search = "grep -laF -f /tmp/secrets"
        t.assertGreater(int(machine.succeed("wc -l < /tmp/paths")), 3)
        t.assertEqual(holders(f"xargs {search} -r < /tmp/paths"), "")
        t.assertEqual(holders(f"{search} /proc/[0-9]*/cmdline /proc/[0-9]*/environ"), "")
        t.assertEqual(holders(f"journalctl --no-pager | {search}"), "")
        # The search does find secrets where they are.
        t.assertNotEqual(holders(f"{search} -r {FACTS['secrets']}"), "")
    shown = json.dumps([rest("/connectors?expand=info"), rest("/connectors/order-outbox"), rest("/connectors/inventory-outbox/tasks")])
    t.assertIn("${dir:/run/credentials/kafka-connect.service:order_cdc}", shown)
    for role, secret in SECRETS.items():
        t.assertNotIn(secret, shown, role)

with subtest("every unit is hardened"):
    for machine, unit in [
        (kafka, "kafka-connect"),
        (kafka, "kafka-connect-topics"),
        (kafka, "kafka-connect-connectors"),
        (order, "outbox-cdc-order"),
        (order, "outbox-cdc-order-database"),
        (order, "outbox-cdc-order-migrations"),
        (inventory, "outbox-cdc-inventory"),
        (inventory, "outbox-cdc-inventory-worker"),
    ]:
        # On a scale to 100; without hardening the exposure is 92. Skipped where the units run without systemd.
        machine.succeed(
            f"test ! -d /run/systemd/system || systemd-analyze security --no-pager --threshold=20 {unit}.service > /tmp/hardening"
            " || { cat /tmp/hardening >&2; false; }"
        )
    for machine in [order, inventory, kafka]:
        # systemd logs an unknown setting and ignores it.
        machine.fail("journalctl --no-pager | grep -E 'systemd\\[1\\]: .*(outbox-cdc|kafka-connect).*(Unknown|Failed to parse|ignoring)'")

with subtest("root runs the commands with the settings and secrets of the units"):
    order.succeed(f"{FACTS['order_command']} check-outbox")
    dead_letters = inventory.succeed(f"{FACTS['worker_command']} dead-letters list --all --json")
    t.assertEqual(json.loads(dead_letters), {"dead_letters": [], "more": False})
    # And every command that docs/nixos.md shows to an operator.
    by_name = {"order": order, "inventory": inventory, "kafka": kafka}
    for shown in FACTS["shown_commands"]:
        by_name[shown["machine"]].succeed(shown["command"])

with subtest("the topics have the declared partitions and settings"):
    described = kafka.succeed(
        f"KAFKA_HEAP_OPTS=-Xmx128m {FACTS['topics']} --bootstrap-server 127.0.0.1:{PORTS['kafka_internal']} --describe"
        " --topic 'order|reservation' 2> /dev/null"
    )
    for topic in ["order", "reservation"]:
        line = next(line for line in described.splitlines() if f"Topic: {topic}\t" in line and "PartitionCount" in line)
        for part in ["PartitionCount: 6", "ReplicationFactor: 1", "retention.ms=604800000", "segment.ms=86400000"]:
            t.assertIn(part, line)


def declare(directory: str) -> None:
    """Replaces the declared connectors, as the unit does when it starts with another configuration."""
    kafka.succeed(f"ln -sfn {directory} /run/kafka-connect-connectors/declared")


def interval() -> str:
    return (rest("/connectors/order-outbox/config") or {}).get("poll.interval.ms", "")


changed = "/run/changed"

with subtest("a connector with a changed declaration is updated"):
    t.assertEqual(interval(), "10")
    t.assertEqual(rest("/connectors/order-outbox/config")["reconciler.owner"], "nixos")
    kafka.succeed(
        f"mkdir -p {changed} && cp {FACTS['declared']}/*.json {changed}/",
        f"sed -i 's/\"poll.interval.ms\": \"10\"/\"poll.interval.ms\": \"20\"/' {changed}/order-outbox.json",
        f"chmod -R a+rX {changed}",
    )
    declare(changed)
    until("the connector is updated", lambda: interval() == "20")
    wait_for_connector("order-outbox")

with subtest("a connector without a declaration is deleted, and the others stay"):
    kafka.succeed(f"rm {changed}/inventory-outbox.json")
    until("the connector is deleted", lambda: rest("/connectors") == ["order-outbox"])
    id = place(MOUSE, 25, 1)
    until("the order is decided", lambda: stock(MOUSE) == 197)
    t.assertEqual(pending({id}), {id})
    declare(FACTS["declared"])
    t.assertEqual(settled(id)["status"], "confirmed")
    until("the connector has its declared configuration again", lambda: interval() == "10")
    wait_for_connector("order-outbox")
    wait_for_connector("inventory-outbox")

with subtest("a connector with a failed task is restarted until it runs"):
    # Dropping the publication would not do: PostgreSQL could never decode what was written without it.
    sql(order, "alter role order_cdc nologin")
    sql(order, "select pg_terminate_backend(active_pid) from pg_replication_slots where active")
    until("its task has failed", lambda: "FAILED" in states("order-outbox"))
    restarted = "journalctl --no-pager -u kafka-connect-connectors.service | grep -q 'connector failed; '"
    until("it is restarted", lambda: kafka.execute(restarted)[0] == 0)
    sql(order, "alter role order_cdc login")
    wait_for_connector("order-outbox")
    t.assertEqual(settled(place(MOUSE, 25, 1))["status"], "confirmed")
    t.assertEqual(stock(MOUSE), 196)
