"""What lies in a run folder: records, outputs, tables, and what can be told from them at any moment."""
