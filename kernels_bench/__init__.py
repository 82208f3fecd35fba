"""samebits: time batch-invariant LLM kernels against the default ones and check them bit for bit.

Run it as ``python -m kernels_bench``.  The rooms, from the ground up:

* `cases`: the vocabulary (precision, shape, case), plain data that every process shares;
* `operators`: what is computed; `arms`: who computes it; `relations`: how companies of rows are chosen;
* `subject`, `comparison`, `verification`, `timing`: what happens inside a worker;
* `protocol`, `worker`, `workers`: one process an arm;
* `catalogue`: what could be run on a device, known without torch, which `deferred` loads when it is first used;
* `plan`, `head_start`, `runner`, `results`, `session`, `cli`: the parent process, which never imports torch;
* `gathered`, `summary`, `conclusions`, `notices`, `report`, `overview`, `agreement`: what the records say.
"""
