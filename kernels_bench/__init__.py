"""samebits: time batch-invariant LLM kernels against the default ones and check them bit for bit.

Run it as ``python -m kernels_bench``.  The rooms, from the ground up; each imports only those before it:

* `console`, `records`, `relations`, `device`: the terminal, what is kept, how rows meet, torch and the GPU;
* `operators`, `report`, `arms`: what is computed, how it is told, who computes it;
* `verification` and `order`, `timing`: equal bits or a counterexample, the order of a sum, how long a call takes;
* `workers` and `faults`: one process an arm, and what is planted to see whether it is found;
* `commands`, `cli`: what a user asks for, in the parent process, which never imports torch.
"""
