create table orders (
    id uuid constraint orders_pkey primary key,
    product_id uuid not null,
    quantity integer not null,
    estimated_price integer not null,
    status varchar(16) default 'pending' not null,
    placed_at timestamptz not null,
    settled_at timestamptz,
    reason varchar(32),
    -- The facts of a rejection that the order itself does not hold.
    actual_price integer,
    available integer,
    constraint orders_quantity check (quantity > 0),
    constraint orders_estimated_price check (estimated_price > 0),
    constraint orders_status check (status in ('pending', 'confirmed', 'rejected')),
    constraint orders_settled check ((status = 'pending') = (settled_at is null)),
    constraint orders_reason check ((status = 'rejected') = (reason is not null)),
    constraint orders_reason_known check (reason in ('product_not_found', 'price_mismatch', 'insufficient_stock')),
    constraint orders_actual_price check ((reason is not distinct from 'price_mismatch') = (actual_price is not null)),
    constraint orders_available check ((reason is not distinct from 'insufficient_stock') = (available is not null))
);

create index orders_pending on orders (placed_at) where status = 'pending';
