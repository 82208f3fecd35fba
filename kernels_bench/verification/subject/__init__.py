"""What is verified: a kernel with its data, where its rows lie, and what memory holds around them."""
