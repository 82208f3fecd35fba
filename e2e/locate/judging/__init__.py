"""Put two passes side by side: which place made other bits of equal inputs, and what is left once it is put right."""
