-- Who gave a dead letter up, and when, is the database's word: nobody who writes the record can say it.
revoke insert on discarded_dead_letter from order_service;
grant insert
    (listener, id, kind, error, topic, partition, "offset", produced_at, key, header_names, header_values, value, attempts,
     dead_lettered_at, reason)
    on discarded_dead_letter to order_service;
