create table products (
    id uuid constraint products_pkey primary key,
    name varchar(255) not null,
    price integer not null,
    stock integer not null,
    constraint products_price check (price >= 0),
    constraint products_stock check (stock >= 0)
);

-- The one decision on each order: a reservation that was placed, or one that was rejected.
create table reservations (
    order_id uuid constraint reservations_pkey primary key,
    id uuid,
    product_id uuid not null,
    quantity integer not null,
    reason varchar(32),
    decided_at timestamptz not null,
    constraint reservations_id_key unique (id),
    constraint reservations_quantity check (quantity > 0),
    constraint reservations_outcome check ((id is null) = (reason is not null)),
    constraint reservations_reason_known check (reason in ('product_not_found', 'price_mismatch', 'insufficient_stock'))
);
