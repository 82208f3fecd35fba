"""What is known of a pass once it was seen: which rows are the needle's, their digests, and each call with them."""
