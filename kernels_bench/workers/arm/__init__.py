"""Inside the process of one arm: its kernels loaded, and what each request has it do with them."""
