"""Licensed deliveries in, packed token shards out."""
