"""An engine, and the process it runs in.  Nothing else imports vLLM."""
