"""A plugin that needs a library which is not there."""

import samebits_has_no_such_module  # type: ignore[import-not-found]  # noqa: F401
