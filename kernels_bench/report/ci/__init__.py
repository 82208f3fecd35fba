"""A run for continuous integration: JUnit XML, and annotations and a step summary for GitHub."""
