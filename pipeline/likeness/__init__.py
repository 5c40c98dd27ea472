"""What duplicates are found by: hashes, signatures, candidates, and how pairs become groups and keepers."""
