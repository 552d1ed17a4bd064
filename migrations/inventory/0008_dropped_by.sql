-- Who gave a letter up, and when, is the database's word: nobody who writes the record can say it.
revoke insert on dropped_letter from inventory_worker;
grant insert
    (listener, id, kind, error, topic, partition, "offset", produced_at, key, header_names, header_values, value, attempts,
     lettered_at, reason)
    on dropped_letter to inventory_worker;
