-- no-transaction
-- The dead letters of a listener in order, page by page: without it, each page sorts all that follow.
create index concurrently if not exists dead_letter_in_order on dead_letter (listener, seq);
