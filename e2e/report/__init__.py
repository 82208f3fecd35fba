"""What came of it: from records to verdicts, speeds and text."""
