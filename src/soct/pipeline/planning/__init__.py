"""What a run would compute, and what it would take: time, memory, disk and files, here and on many machines. Nothing here writes."""
