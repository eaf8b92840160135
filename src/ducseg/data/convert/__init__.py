"""Other tools' annotations to masks."""
