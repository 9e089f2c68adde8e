"""Redis: hints and wake-ups. Flushed at any instant, work is late and never lost: the ticks read the truth from SQL."""
