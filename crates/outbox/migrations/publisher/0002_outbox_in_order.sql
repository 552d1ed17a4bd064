-- no-transaction
-- The rows in order, as the connector reads them again: without it, PostgreSQL sorts the whole table before the first event.
create index concurrently if not exists outbox_in_order on outbox (seq);
