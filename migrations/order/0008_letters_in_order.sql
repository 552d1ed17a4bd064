-- All dead letters in their order, page by page: without it each page sorts all that come after it.
create index dead_letter_in_order on dead_letter (listener, seq);
